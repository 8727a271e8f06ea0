"""The thread that owns the broker: an event loop with its sockets, its timers, and calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from neon_mq_connector.testing.embedded.connection import Connection, ConnectionState
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.node import CONSUMER_TIMEOUT, Node
from neon_mq_connector.testing.errors import PrivateBrokerError

_LOG = logging.getLogger("neon_mq_connector.testing")

#: Output is collected while an event is handled, but not more than so many octets.
_OUTPUT_SIZE = 256 * 1024
#: Consumers get nothing more while so many octets wait to be sent, until so few are left.
_CONGESTED_ABOVE = 1024 * 1024
_CONGESTED_UNTIL = 256 * 1024
_TICK_SECONDS = 0.25
_CALL_SECONDS = 10.0
_GOODBYE_SECONDS = 0.3
_GOODBYE_POLL_SECONDS = 0.002
#: Closing a socket with this makes the kernel reset the connection.
_RESET = struct.pack("ii", 1, 0)

Answer = TypeVar("Answer")


class Peer(asyncio.Protocol):
    """The socket of a client. Owned by the broker's thread.

    Args:
        server: the server.
    """

    transport: asyncio.Transport
    connection: Connection

    def __init__(self, server: Server) -> None:
        self._server = server
        self._update_is_due = False
        self._is_paused = False
        self._output: list[bytes] = []
        self._output_size = 0
        #: what the fault `delay` holds back, with the times of the loop when it may be sent
        self._delayed: deque[tuple[float, bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(_CONGESTED_ABOVE, _CONGESTED_UNTIL)
        self.transport = transport
        self.connection = self._server.connect(self, transport.get_extra_info("peername")[:2])

    def data_received(self, data: bytes) -> None:
        self.guard(self.connection.receive, data)

    def pause_writing(self) -> None:
        self._is_paused = True
        self.connection.set_congested(True)

    def resume_writing(self) -> None:
        self._is_paused = False
        # a write that fails in here makes asyncio end the transport twice
        self._server.loop.call_soon(self._resume)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.forget(self.connection)

    def guard(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call a function of the connection; an exception ends that connection only."""
        try:
            action(*arguments)
        except Exception:
            _LOG.exception("the embedded broker closes connection %s", self.connection.name)
            self.connection.fail(AMQPError(541, "see the log of the process"))
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Send bytes in the next round of the loop, or at once if there are many."""
        self._output.append(data)
        self._output_size += len(data)
        if self._output_size > _OUTPUT_SIZE:
            self._update()
        elif not self._update_is_due:
            self._update_is_due = True
            self._server.loop.call_soon(self._update)

    def send_delayed(self) -> None:
        """Send the delayed output that is due; all of it once there is no delay."""
        delay, now = self._server.node.faults.delay, self._server.loop.time()
        while self._delayed and (not delay or self._delayed[0][0] <= now):
            self.transport.write(self._delayed.popleft()[1])
        self.write(b"")

    def reset(self) -> None:
        """Reset the connection, as if the network had vanished."""
        with contextlib.suppress(OSError):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
        self._server.forget(self.connection)

    def _resume(self) -> None:
        if not self._is_paused:
            self.connection.set_congested(False)

    def _update(self) -> None:
        """Send the output, and start or stop reading."""
        self._update_is_due = False
        output = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        if self.transport.is_closing():
            return
        delay = self._server.node.faults.delay
        if output and (delay or self._delayed):
            self._delayed.append((self._server.loop.time() + delay, output))
            self._server.loop.call_later(delay, self.send_delayed)
        elif output:
            self.transport.write(output)
        if self.connection.finished and not self._delayed:
            self.transport.close()
        elif self.connection.blocked:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class Server:
    """A running broker; made anew at each start.

    Args:
        node: what it serves; owned by the broker's thread, as all that is below `stop`.
        host: the address to listen on.
        port: the port to listen on.
    """

    def __init__(self, node: Node, host: str, port: int) -> None:
        self.node = node
        self.loop = asyncio.new_event_loop()
        self._address = (host, port)
        self._listener: asyncio.Server | None = None
        self._peers: dict[Connection, Peer] = {}
        self._clock_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name=f"embedded-broker-{port}", daemon=True
        )

    # --- from other threads

    @property
    def running(self) -> bool:
        """Whether the thread serves."""
        return self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Listen and serve.

        Raises:
            OSError: the port cannot be had.
        """
        self._thread.start()
        try:
            self._wait_for(self._start())
        except BaseException:
            self.give_up()
            self._thread.join(_CALL_SECONDS)
            raise

    def call(self, action: Callable[[], Answer]) -> Answer:
        """Call a function in the thread that owns the broker and return its result.

        Raises:
            PrivateBrokerError: the thread has ended or did not answer in time.
        """

        async def perform() -> Answer:
            return action()

        return self._wait_for(perform())

    def accept(self) -> None:
        """Listen again."""
        self._wait_for(self._listen())

    def stop(self, *, reason: str | None, timeout: float = 10.0) -> None:
        """Stop serving and wait until the thread has ended.

        Args:
            reason: clients are told; None resets their connections instead, as a crash does.
            timeout: seconds.
        """
        with contextlib.suppress(PrivateBrokerError):
            self._wait_for(self._stop(reason), timeout)
        self.give_up()
        self._thread.join(timeout)

    def give_up(self) -> None:
        """End the thread, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _wait_for(
        self, work: Coroutine[Any, Any, Answer], timeout: float = _CALL_SECONDS
    ) -> Answer:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as error:
            work.close()
            raise PrivateBrokerError("the embedded broker has ended") from error
        try:
            return future.result(timeout)
        except (CancelledError, FutureTimeout) as error:
            raise PrivateBrokerError(
                f"the embedded broker has ended or did not answer within {timeout} s"
            ) from error

    # --- from the thread

    def connections(self, vhost: str | None = None) -> list[Connection]:
        """Return the connections that clients have opened, or those of one virtual host."""
        return [
            each
            for each in self._peers
            if each.state is ConnectionState.RUNNING and vhost in (None, each.vhost.name)
        ]

    def connect(self, peer: Peer, address: tuple[str, int]) -> Connection:
        """Return the connection of a new client."""
        connection = Connection(self.node, address, self._address, peer.write)
        self._peers[connection] = peer
        return connection

    def forget(self, connection: Connection) -> None:
        """Drop a connection whose socket is closed."""
        if self._peers.pop(connection, None) is not None:
            connection.lost()

    def refuse(self) -> None:
        """Stop listening: who connects is refused by the operating system."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def reset(self, connection: Connection) -> None:
        """Reset a connection, as if its client or the network had vanished."""
        self._peers[connection].reset()

    def check_timeouts(self) -> None:
        """End channels whose clients have held a message for too long."""
        for connection in list(self._peers):
            connection.check_timeouts(CONSUMER_TIMEOUT, self.node.clock.now())

    def send_delayed(self) -> None:
        """Send the delayed output that is due; all of it once there is no delay."""
        for peer in self._peers.values():
            peer.send_delayed()

    def _run(self) -> None:
        self.loop.run_forever()
        self._stopping = True
        self.refuse()
        for peer in self._peers.values():
            peer.transport.abort()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _start(self) -> None:
        self.node.clock.on_change = self._set_clock_timer
        self.node.start(self.check_timeouts)
        self._tick()
        await self._listen()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await self.loop.create_server(lambda: Peer(self), *self._address)

    async def _stop(self, reason: str | None) -> None:
        self.refuse()
        self.node.faults.delay = 0.0
        self.send_delayed()
        for connection, peer in list(self._peers.items()):
            if reason is None:
                peer.reset()
            else:
                connection.fail(AMQPError(320, reason))
        self._stopping = True
        # clients have to read why, and say so, before their sockets are closed
        deadline = self.loop.time() + _GOODBYE_SECONDS
        while self._peers and self.loop.time() < deadline:
            await asyncio.sleep(_GOODBYE_POLL_SECONDS)

    def _tick(self) -> None:
        self.loop.call_later(_TICK_SECONDS, self._tick)
        for connection, peer in list(self._peers.items()):
            peer.guard(connection.tick)

    def _set_clock_timer(self) -> None:
        """Run the clock when its next timer is due."""
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        delay = self.node.clock.seconds_to_next()
        if delay is not None:
            self._clock_timer = self.loop.call_later(delay, self._run_clock)

    def _run_clock(self) -> None:
        try:
            self.node.clock.run_due()
        finally:
            self._set_clock_timer()
