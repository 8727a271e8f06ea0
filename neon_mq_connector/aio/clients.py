"""The senders and request clients of one event loop, which owns them."""

from __future__ import annotations

import asyncio

from neon_mq_connector.aio.blocking import BlockingCalls, wait_until_done
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import AsyncSender
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError


class LoopClients:
    """The senders and requests of one loop, by whichever connections and clients.

    Attributes:
        calls: makes the calls that wait for the broker, for what is sent and asked.
        lifecycle: makes those that start and stop; they wait for none of the others.
    """

    def __init__(self, owner: str, loop: CoroutineLoop) -> None:
        self.loop = loop
        self._name = f"mq-await:{owner}"
        self.calls = BlockingCalls(self._name)
        self.lifecycle = BlockingCalls(f"mq-run:{owner}")
        self._senders: dict[Connections, AsyncSender] = {}
        self._requests: dict[RequestClient, AsyncRequests] = {}
        self._stopped: StoppedError | None = None

    def sender(self, connections: Connections) -> AsyncSender:
        """Return the sender for the connections of a virtual host."""
        sender = self._senders.get(connections)
        if sender is None:
            self._check()
            sender = AsyncSender(connections, self._name, self.loop)
            self._senders[connections] = sender
        return sender

    def requests(self, client: RequestClient) -> AsyncRequests:
        """Return the requests that go over the connection of a client."""
        requests = self._requests.get(client)
        if requests is None:
            self._check()
            sender = self.sender(client.connections)
            requests = AsyncRequests(client, self.loop, self.calls, sender)
            self._requests[client] = requests
        return requests

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    async def stop(self, reason: str, timeout: float) -> None:
        """End what is awaited, with a reason, and wait for the threads, so many seconds at most."""
        self._stopped = StoppedError(reason)
        for requests in self._requests.values():
            requests.stop(self._stopped)
        threads = (*self._senders.values(), *self.calls.threads, *self.lifecycle.threads)
        await wait_until_done(threads, timeout)


#: By the loop that uses each alone.
_clients: dict[asyncio.AbstractEventLoop, LoopClients] = {}


def current_clients() -> LoopClients:
    """Return the clients of the running loop, for calls that belong to no connector.

    Raises:
        RuntimeError: no loop is running.
    """
    running = asyncio.get_running_loop()
    clients = _clients.get(running)
    if clients is None:
        for loop in tuple(_clients):  # a copy: other loops have threads of their own
            if loop.is_closed():
                _clients.pop(loop, None)
        clients = _clients[running] = LoopClients("requests", CoroutineLoop(running))
    return clients
