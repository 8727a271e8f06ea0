"""What one event loop sends and asks by; it owns all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CallersLoop
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.aio.sending import AsyncSender
from neon_mq_connector.client import RequestClient
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.publishing.encoded_message import prepare_encoded
from neon_mq_connector.publishing.message import Destination


class Binding:
    """The senders and requests of one loop, by whichever connections and clients.

    Args:
        name: what to name the threads for calls that wait for the broker.
        loop: the loop.

    Attributes:
        loop: the same.
        calls: makes such calls.
    """

    def __init__(self, name: str, loop: CallersLoop) -> None:
        self.loop = loop
        self.calls = BlockingCalls(name, loop)
        self._name = name
        self._senders: dict[Connections, AsyncSender] = {}
        self._requests: dict[RequestClient, AsyncRequests] = {}
        self._stopped: StoppedError | None = None

    def check_open(self) -> None:
        """Check that nothing has stopped it.

        Raises:
            StoppedError: it was stopped.
        """
        if self._stopped is not None:
            raise self._stopped

    def sender(self, connections: Connections) -> AsyncSender:
        """Return what sends by the connections of a virtual host."""
        sender = self._senders.get(connections)
        if sender is None:
            self.check_open()
            self._senders = {
                each: sender for each, sender in self._senders.items() if not each.is_closed
            }
            sender = self._senders[connections] = AsyncSender(connections, self.loop, self._name)
        return sender

    def requests(self, client: RequestClient) -> AsyncRequests:
        """Return what asks by a client."""
        requests = self._requests.get(client)
        if requests is None:
            self.check_open()
            self._requests = {
                each: requests for each, requests in self._requests.items() if not each.is_closed
            }
            requests = self._requests[client] = AsyncRequests(client, self.loop, self.calls)
        return requests

    async def stop(self, reason: str, timeout: float) -> None:
        """End what is awaited, and wait for the threads.

        Args:
            reason: what the errors are to say.
            timeout: how long to wait for the threads, in seconds.
        """
        self._stopped = StoppedError(reason)
        await asyncio.gather(*(each.stop(reason) for each in self._requests.values()))
        for sender in self._senders.values():
            await self.calls.run(
                partial(sender.outbox.wait_until_done, timeout),
                timeout=timeout + 1.0,
                what="sending what has waited",
            )
        await self.calls.wait_until_done(timeout)


#: By the loop that uses each alone.
_bindings: dict[asyncio.AbstractEventLoop, Binding] = {}


def this_binding() -> Binding:
    """Return what the running loop sends and asks by, where no connector does.

    Raises:
        RuntimeError: no loop is running.
    """
    running = asyncio.get_running_loop()
    binding = _bindings.get(running)
    if binding is None:
        for loop in tuple(_bindings):  # a copy: other loops have threads of their own
            if loop.is_closed():
                _bindings.pop(loop, None)
        binding = _bindings[running] = Binding("mq-await:requests", CallersLoop(running))
    return binding


def requests_by(client: RequestClient) -> AsyncRequests:
    """Return the requests of the running loop by a client.

    Raises:
        RuntimeError: no loop is running.
    """
    return this_binding().requests(client)


async def send_by(
    client: RequestClient,
    queue: str,
    data: Mapping[str, Any],
    *,
    timeout: float,
    wire_format: WireFormat,
) -> str:
    """Do as `RequestClient.send`, for a coroutine of the running loop."""
    encoded = prepare_encoded(data, wire_format=wire_format, expiration=None, app_id=client.owner)
    sender = this_binding().sender(client.connections)
    return await sender.send(Destination(queue=queue), encoded, timeout=timeout)


async def in_thread(function: Callable[[], object], *, timeout: float, what: str) -> None:
    """Call what may take its time on a thread of our own; see `BlockingCalls.run`."""
    await this_binding().calls.run(function, timeout=timeout, what=what)
