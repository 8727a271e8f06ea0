"""The senders and request clients of one event loop, which owns them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import AsyncSender
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError, WaitTimeoutError


class Binding:
    """The senders and requests of one loop, by whichever connections and clients.

    Args:
        owner: the name of the service, for the names of threads.
        loop: the loop.

    Attributes:
        loop: the same.
        calls: makes the calls that wait for the broker, for what is sent and asked.
        lifecycle: makes those that start and stop; they wait for none of the others.
    """

    def __init__(self, owner: str, loop: CoroutineLoop) -> None:
        self.loop = loop
        self._name = f"mq-await:{owner}"
        self.calls = BlockingCalls(self._name, loop)
        self.lifecycle = BlockingCalls(f"mq-run:{owner}", loop)
        self._senders: dict[Connections, AsyncSender] = {}
        self._requests: dict[RequestClient, AsyncRequests] = {}
        self._stopped: StoppedError | None = None

    def sender(self, connections: Connections) -> AsyncSender:
        """Return the sender for the connections of a virtual host."""
        sender = self._senders.get(connections)
        if sender is None:
            self._prepare(self._senders)
            sender = AsyncSender(connections, self._name, self.loop)
            self._senders[connections] = sender
        return sender

    def requests(self, client: RequestClient) -> AsyncRequests:
        """Return the requests that go over the connection of a client."""
        requests = self._requests.get(client)
        if requests is None:
            self._prepare(self._requests)
            sender = self.sender(client.connections)
            requests = AsyncRequests(client, self.loop, self.calls, sender)
            self._requests[client] = requests
        return requests

    def _prepare(self, known: dict[Any, Any]) -> None:
        """Check that it is not stopped, and forget what was closed."""
        if self._stopped is not None:
            raise self._stopped
        for each in [each for each in known if each.is_closed]:
            del known[each]

    async def stop(self, reason: str, timeout: float) -> None:
        """End what is awaited, and wait for the threads.

        Args:
            reason: what the errors are to say.
            timeout: how long to wait for the threads, in seconds.
        """
        self._stopped = StoppedError(reason)
        await asyncio.gather(*(each.stop(self._stopped) for each in self._requests.values()))
        for sender in self._senders.values():
            wait = partial(sender.wait_until_done, timeout)
            with suppress(WaitTimeoutError):
                await self.calls.run(wait, timeout=timeout, what="sending what had to wait")
        await asyncio.gather(
            self.calls.wait_until_done(timeout), self.lifecycle.wait_until_done(timeout)
        )


#: By the loop that uses each alone.
_bindings: dict[asyncio.AbstractEventLoop, Binding] = {}


def current_binding() -> Binding:
    """Return the binding of the running loop, for calls that belong to no connector.

    Raises:
        RuntimeError: no loop is running.
    """
    running = asyncio.get_running_loop()
    binding = _bindings.get(running)
    if binding is None:
        for loop in tuple(_bindings):  # a copy: other loops have threads of their own
            if loop.is_closed():
                _bindings.pop(loop, None)
        binding = _bindings[running] = Binding("requests", CoroutineLoop(running))
    return binding
