"""The thread that owns the broker: sockets, timers, and what other threads ask of it."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from neon_mq_connector.testing.embedded.connection import Connection, ConnectionState
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.node import CONSUMER_TIMEOUT, Node
from neon_mq_connector.testing.errors import PrivateBrokerError

_LOG = logging.getLogger("neon_mq_connector.testing")

_READ_SIZE = 256 * 1024
_TICK_SECONDS = 0.25
_BACKLOG = 128
_GOODBYE_SECONDS = 0.3
#: Closing a socket with this makes the kernel reset the connection.
_RESET = struct.pack("ii", 1, 0)

Answer = TypeVar("Answer")


class Peer:
    """A socket with the connection that it carries."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.socket = sock
        self.connection = connection
        #: what has not been sent, with the times when it may be
        self.pending: deque[tuple[float, memoryview]] = deque()
        self.events = selectors.EVENT_READ


class Server:
    """A running broker; made anew at each start.

    Everything but `call` and the properties belongs to its thread.

    Args:
        node: what it serves.
        host: the address to listen on.
        port: the port to listen on.
    """

    def __init__(self, node: Node, host: str, port: int) -> None:
        self._node = node
        self._address = (host, port)
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._peers: dict[Connection, Peer] = {}
        self._dirty: dict[Connection, None] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._waker, self._wakes = socket.socketpair()
        self._stopping = False
        self._patience_ends = 0.0
        self._next_tick = 0.0
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
        try:
            self._listen()
        except OSError:
            self._close_sockets()
            raise
        self._waker.setblocking(False)
        self._wakes.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._node.start(self.check_timeouts)
        self._thread.start()

    def call(self, action: Callable[[], Answer], timeout: float = 10.0) -> Answer:
        """Do something in the thread that owns the broker and return what it returned.

        Raises:
            PrivateBrokerError: the thread has ended or did not answer in time.
        """
        if threading.current_thread() is self._thread:
            return action()
        future: Future[Answer] = Future()

        def perform() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        self._calls.append(perform)
        self._wake()
        deadline = time.monotonic() + timeout
        while not future.done() and self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError, FutureTimeout):
                return future.result(min(0.5, timeout))
        if future.done():
            return future.result()
        raise PrivateBrokerError(f"the embedded broker did not answer within {timeout} s")

    def stop(self, *, reason: str | None, timeout: float = 10.0) -> None:
        """Stop serving and wait until the thread has ended.

        Args:
            reason: clients are told; None resets their connections instead, as a crash does.
            timeout: seconds.
        """
        with contextlib.suppress(PrivateBrokerError):
            self.call(lambda: self._stop(reason), timeout)
        self._thread.join(timeout)

    def give_up(self) -> None:
        """Let the thread end soon, without waiting for it."""
        self._calls.append(lambda: self._stop(None))
        self._wake()

    # --- from the thread

    def connections(self, vhost: str | None = None) -> list[Connection]:
        """Return the connections that clients have opened, or those of one virtual host."""
        return [
            each
            for each in self._peers
            if each.state is ConnectionState.RUNNING and vhost in (None, each.vhost.name)
        ]

    def accept(self) -> None:
        """Listen again."""
        if self._listener is None:
            self._listen()

    def refuse(self) -> None:
        """Stop listening: who connects is refused by the operating system."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def reset(self, connection: Connection) -> None:
        """Reset a connection, as if its client or the network had vanished."""
        peer = self._peers.get(connection)
        if peer is not None:
            with contextlib.suppress(OSError):
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._drop(peer)

    def check_alarms(self) -> None:
        """Let blocked connections go on if no alarm is on any more."""
        for connection in list(self._peers):
            if connection.blocked:
                self._guarded(connection, connection.check_alarms)
                self._mark(connection)

    def check_timeouts(self) -> None:
        """End channels whose clients have held a message for too long."""
        for connection in list(self._peers):
            connection.check_timeouts(CONSUMER_TIMEOUT, self._node.clock.now())

    def send_pending(self) -> None:
        """Send what was held back, as far as it may be sent now."""
        self._dirty.update((peer.connection, None) for peer in self._peers.values() if peer.pending)

    def _run(self) -> None:
        try:
            # clients have to read why, and say so, before their sockets are closed
            while not self._stopping or (self._peers and time.monotonic() < self._patience_ends):
                self._turn()
        except Exception:
            _LOG.exception("the embedded broker on port %s ends", self._address[1])
        finally:
            self._stopping = True
            self._close_sockets()
            for call in list(self._calls):
                call()

    def _turn(self) -> None:
        for key, events in self._selector.select(self._patience()):
            if key.data is not None:
                self._serve(key.data, events)
            elif key.fileobj is self._wakes:
                with contextlib.suppress(BlockingIOError):
                    self._wakes.recv(4096)
            elif self._listener is not None:
                self._accept(self._listener)
        while self._calls:
            self._calls.popleft()()
        try:
            self._node.clock.run_due()
        except Exception:
            _LOG.exception("a timer of the embedded broker on port %s failed", self._address[1])
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_SECONDS
            for connection in list(self._peers):
                self._guarded(connection, lambda each=connection: each.tick(now))  # type: ignore[misc]
            self.check_alarms()
        if self._node.faults.delay:
            self.send_pending()
        while self._dirty:
            connection, _ = self._dirty.popitem()
            peer = self._peers.get(connection)
            if peer is not None:
                self._flush(peer)

    def _patience(self) -> float | None:
        if self._calls:
            return 0.0
        waits = [self._next_tick - time.monotonic()] if self._peers else []
        to_next_timer = self._node.clock.seconds_to_next()
        if to_next_timer is not None:
            waits.append(to_next_timer)
        if self._node.faults.delay:
            due = (peer.pending[0][0] for peer in self._peers.values() if peer.pending)
            waits += [each - time.monotonic() for each in due]
        return max(min(waits), 0.0) if waits else None

    def _serve(self, peer: Peer, events: int) -> None:
        connection = peer.connection
        if events & selectors.EVENT_WRITE:
            self._mark(connection)
        if not events & selectors.EVENT_READ or connection not in self._peers:
            return
        try:
            data = peer.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._guarded(connection, lambda: connection.receive(data))
            if connection.blocked:
                self._mark(connection)
        else:
            self._drop(peer)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer_address = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self._node, peer_address[:2], self._address, self._mark)
        peer = self._peers[connection] = Peer(sock, connection)
        self._selector.register(sock, peer.events, peer)

    def _guarded(self, connection: Connection, action: Callable[[], None]) -> None:
        """Do something for a connection; what goes wrong ends that connection only."""
        try:
            action()
        except Exception:
            _LOG.exception("the embedded broker closes connection %s", connection.name)
            connection.fail(AMQPError(541, "see the log of the process"))

    def _mark(self, connection: Connection) -> None:
        self._dirty[connection] = None

    def _flush(self, peer: Peer) -> None:
        """Send what may be sent now; what the socket does not take stays."""
        connection, pending, delay = peer.connection, peer.pending, self._node.faults.delay
        now = time.monotonic() if delay else 0.0
        is_full = False
        while not is_full:
            if not pending or delay:
                output = connection.take_output()
                if output:
                    pending.append((now + delay, memoryview(output)))
            if not pending or (delay and pending[0][0] > now):
                break
            due, data = pending.popleft()
            try:
                sent = peer.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(peer)
                return
            if sent < len(data):
                pending.appendleft((due, data[sent:]))
                is_full = True
        connection.set_unsent(sum(len(data) for _, data in pending))
        if connection.finished and not pending:
            self._drop(peer)
            return
        events = 0 if connection.blocked else selectors.EVENT_READ
        self._watch(peer, events | (selectors.EVENT_WRITE if is_full else 0))

    def _watch(self, peer: Peer, events: int) -> None:
        if events == peer.events:
            return
        if not peer.events:
            self._selector.register(peer.socket, events, peer)
        elif not events:
            self._selector.unregister(peer.socket)
        else:
            self._selector.modify(peer.socket, events, peer)
        peer.events = events

    def _drop(self, peer: Peer) -> None:
        """Close a socket and let its connection know."""
        if self._peers.pop(peer.connection, None) is None:
            return
        self._dirty.pop(peer.connection, None)
        if peer.events:
            self._selector.unregister(peer.socket)
        peer.socket.close()
        try:
            peer.connection.lost()
        except Exception:
            _LOG.exception("the embedded broker lost connection %s", peer.connection.name)

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def _stop(self, reason: str | None) -> None:
        self.refuse()
        self._node.faults.delay = 0.0
        for connection in list(self._peers):
            if reason is None:
                self.reset(connection)
            else:
                connection.fail(AMQPError(320, reason))
                self._mark(connection)
        self._stopping = True
        self._patience_ends = time.monotonic() + _GOODBYE_SECONDS

    def _close_sockets(self) -> None:
        for peer in list(self._peers.values()):
            self._drop(peer)
        self.refuse()
        self._selector.close()
        self._waker.close()
        self._wakes.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")
