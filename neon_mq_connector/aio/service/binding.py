"""A connector on the loop that it is used from: what its coroutines send and ask by."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Hashable
from functools import partial
from typing import Protocol

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CallersLoop
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.aio.sending import AsyncSender
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError

#: How long it may take to make what is needed for a connection, in seconds: nothing is opened.
_PREPARING = 15.0


class Phase(enum.Enum):
    """Where a connector stands, between being made and being stopped."""

    OPEN = "open"
    STARTING = "starting"
    #: It can be run again, and do nothing else.
    STOPPED = "stopped"


class Opener(Protocol):
    """What opens connections and clients, and keeps them."""

    service_name: str

    def connections_to(self, vhost: str) -> Connections:
        """Give the connections to a virtual host."""

    def client_of(self, vhost: str) -> RequestClient:
        """Give the request client of a virtual host."""


class Binding:
    """What a connector has on one asyncio loop, which owns it.

    Args:
        opener: gives the connections and clients.

    Attributes:
        loop: the running loop.
        calls: makes the calls that wait for the broker, for what is sent and asked.
        lifecycle: makes those that start and stop; they wait for none of the others.
    """

    def __init__(self, opener: Opener) -> None:
        self.loop = CallersLoop()
        self.calls = BlockingCalls(f"mq-await:{opener.service_name}", self.loop)
        self.lifecycle = BlockingCalls(f"mq-run:{opener.service_name}", self.loop)
        self._opener = opener
        self._prepared: set[Hashable] = set()
        self._senders: dict[str, tuple[Connections, AsyncSender]] = {}
        self._requests: dict[RequestClient, AsyncRequests] = {}
        self._stopped: StoppedError | None = None

    async def sender(self, vhost: str) -> AsyncSender:
        """Give what sends to a virtual host.

        Raises:
            ConfigurationError: there are no credentials for the service.
        """
        if ("send", vhost) not in self._prepared:
            await self.calls.run(
                partial(self._opener.connections_to, vhost),
                timeout=_PREPARING,
                what=f"preparing connections to virtual host {vhost!r}",
            )
            self._prepared.add(("send", vhost))
        if self._stopped is not None:
            raise self._stopped
        connections = self._opener.connections_to(vhost)
        known, sender = self._senders.get(vhost, (None, None))
        if sender is None or known is not connections:
            sender = AsyncSender(connections, self.loop, self.calls)
            self._senders[vhost] = (connections, sender)
        return sender

    async def requests(self, vhost: str) -> AsyncRequests:
        """Give what asks in a virtual host.

        Raises:
            ConfigurationError: there are no credentials for the service.
        """
        if ("ask", vhost) not in self._prepared:
            await self.calls.run(
                partial(self._opener.client_of, vhost),
                timeout=_PREPARING,
                what=f"preparing requests in virtual host {vhost!r}",
            )
            self._prepared.add(("ask", vhost))
        return self.requests_now(vhost)

    def requests_now(self, vhost: str) -> AsyncRequests:
        """Give what asks in a virtual host; the first time this reads what TLS needs."""
        if self._stopped is not None:
            raise self._stopped
        client = self._opener.client_of(vhost)  # another one after a change of the settings
        requests = self._requests.get(client)
        if requests is None:
            requests = self._requests[client] = AsyncRequests(client, self.loop, self.calls)
        return requests

    async def stop(self, reason: str, timeout: float) -> None:
        """End what is awaited, and wait for the threads.

        Args:
            reason: what the errors are to say.
            timeout: how long to wait for the threads, in seconds.
        """
        self._stopped = StoppedError(reason)
        await asyncio.gather(*(each.stop(reason) for each in tuple(self._requests.values())))
        await asyncio.gather(
            self.calls.wait_until_done(timeout), self.lifecycle.wait_until_done(timeout)
        )
        self.loop.stop(0.0)
