"""The socket of a connection: any thread writes to it, and its `Reader` reads it.

pika gets it through `AbstractStreamTransport`, its public interface for streams. Two things differ
from its own: what is read goes through our parser (see `reader`), and any thread may send.

Writing is *flat combining*: what is to be sent is appended, in one piece per message, and then the
thread that gets the lock sends all that is there, others' too. No thread waits for the lock: its
holder looks again after releasing it. So a thread that sends pays for a system call and not for
waking another thread, and when many send, one call carries many messages.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from typing import Any, Protocol

from pika.adapters.utils.nbio_interface import AbstractStreamProtocol, AbstractStreamTransport

from neon_mq_connector.errors import ConnectionLostError, MQError, WaitTimeoutError
from neon_mq_connector.link.loop import ERROR, READ, WRITE, Loop
from neon_mq_connector.link.reader import Reader

LOG = logging.getLogger("neon_mq_connector.link")

_READ_SIZE = 65_536
#: So many bytes are worth a system call of their own.
_ENOUGH = 16_384
#: Above so many bytes that the socket does not take, senders wait.
MAX_BACKLOG = 8 * 2**20
_INTERRUPTED = ConnectionLostError("a thread was interrupted while it was sending")


class Gate(Protocol):
    """What has to be open for a frame to leave: once `refusal` is set it stays so.

    It is read and written under the transport's lock, so that no frame leaves after the one that
    closes a channel. A broker answers one that does by closing the connection.
    """

    refusal: MQError | None


class StreamTransport(AbstractStreamTransport):
    """Read frames from a socket and write them.

    `_order` owns what is to be sent and the gates. It is held for moments, and reentrant: a signal
    handler that calls ``stop()`` may interrupt its holder. `_writing` is held while sending. The
    others are owned by the I/O thread.

    Args:
        sock: connected and not blocking.
        protocol: pika's; it gets all frames but those that channels take themselves.
        loop: of the I/O thread.

    Attributes:
        reader: what reads the socket.
    """

    _may_lease = True
    _waits_to_read = False

    def __init__(
        self,
        sock: socket.socket,
        protocol: AbstractStreamProtocol,
        loop: Loop,
    ) -> None:
        self._socket = sock
        self._protocol = protocol
        self._loop = loop
        self._order = threading.RLock()
        self._room = threading.Condition(self._order)
        self._out: list[bytes] = []
        self._backlog = 0
        self._writing = threading.Lock()
        self._unsent: memoryview | None = None
        self._blocked = False
        self._flush_is_soon = False
        self._lost = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = sock.fileno()
        self.reader = Reader(
            self._fd,
            protocol,
            loop,
            receive=self._receive,
            end=self._end,
            may_lease=self._may_lease and loop.any_thread_may_watch,
        )
        loop.add_handler(self._fd, self._on_event, READ)

    # -- any thread ----------------------------------------------------------------------------

    def send(self, data: bytes, gate: Gate, *, timeout: float = 0.0, flush: bool = True) -> None:
        """Send whole frames.

        Args:
            data: the frames, which leave in one piece.
            gate: what has to be open.
            timeout: how long to wait for room, in seconds, when the socket does not take enough; 0
                to send in any case.
            flush: whether to write now; otherwise a later `flush` does.

        Raises:
            MQError: the gate is shut, for this reason; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """
        if self._backlog > MAX_BACKLOG and timeout:
            self._wait_for_room(timeout)
        size = len(data)
        with self._order:
            if gate.refusal is not None:
                raise gate.refusal
            # in this order: a signal handler may raise an exception when a call returns
            self._backlog += size
            self._out.append(data)
        if flush:
            self.flush()

    def flush(self) -> None:
        """Write what is to be sent, if the socket takes it and no other thread writes."""
        while (self._out or self._unsent is not None) and not self._blocked:
            if self._writing.locked():
                return  # its holder looks again
            with self._writing:
                try:
                    self._write()
                except BaseException:
                    # an interrupt: it is not known what has left
                    self._blocked = True
                    self._loop.add_callback(lambda: self._end(_INTERRUPTED))
                    for channel in list(self.reader.parser.channels.values()):
                        channel.closing()  # the thread's next message must not be lost with these
                    raise

    def flush_soon(self) -> None:
        """Write when there is a good deal of it, or else as soon as the I/O thread comes to it."""
        if self._backlog >= _ENOUGH:
            self.flush()
        elif not self._flush_is_soon:
            self._flush_is_soon = True
            self._loop.add_callback(self._flush_now)

    @property
    def has_room(self) -> bool:
        """Whether `send` need not wait for room."""
        return self._backlog <= MAX_BACKLOG

    def shut(self, gate: Gate, refusal: MQError) -> None:
        """Shut a gate: from here on nothing leaves that has to pass it."""
        with self._order:
            if gate.refusal is None:
                gate.refusal = refusal

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are still to be sent."""
        return self._backlog

    def _wait_for_room(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._order:  # by the lock itself, whose entry no exception can interrupt
            while self._backlog > MAX_BACKLOG and not self._lost:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WaitTimeoutError(
                        f"the broker takes nothing: {self._backlog} bytes wait to be sent"
                    )
                self._room.wait(left)

    def _write(self) -> None:
        """Send what is there; called by the holder of `_writing`."""
        data: Any = self._unsent
        if data is None:
            with self._order:
                chunks, self._out = self._out, []
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        try:
            sent = self._send_some(data)
        except OSError as error:
            LOG.debug("cannot send: %s", error)
            self._blocked = True  # the reader finds the end of the connection
            self._loop.add_callback(self._read)
            return
        if sent == len(data):
            self._unsent = None
        else:
            self._unsent = memoryview(data)[sent:]
        if sent:
            with self._order:
                self._backlog -= sent
                if self._backlog + sent > MAX_BACKLOG:
                    self._room.notify_all()

    def _send_some(self, data: Any) -> int:
        """Send as much as the socket takes; watch for room if that is not all."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._blocked = True
            self._loop.add_callback(self._want_to_write)
        return sent

    # -- I/O thread ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send what pika has to say, in the order of all that is sent."""
        with self._order:
            self._out.append(data)
            self._backlog += len(data)
        self.flush()

    def abort(self) -> None:
        """Drop the connection soon."""
        self._loop.add_callback(lambda: self._end(None))

    def get_protocol(self) -> AbstractStreamProtocol:
        """Return the protocol."""
        return self._protocol

    def _flush_now(self) -> None:
        self._flush_is_soon = False
        self.flush()

    def _want_to_write(self) -> None:
        self.reader.lease.watch_writable(True)

    def _on_event(self, _fd: int, events: int) -> None:
        if events & (WRITE | ERROR):
            self.reader.lease.watch_writable(False)
            self._blocked = self._waits_to_read
            self.flush()
        if events & (READ | ERROR):
            self._read()

    def _read(self) -> None:
        self.reader.read()

    def _receive(self) -> bytes:
        return self._socket.recv(_READ_SIZE)

    def _end(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self.reader.close()
        self._loop.remove_handler(self._fd)
        with self._room:
            self._lost = True
            self._out.clear()
            self._backlog = 0
            self._room.notify_all()
        self._blocked = True
        # a thread that sends or reads must not find another connection behind the descriptor
        with self.reader.lease.reading, self._writing:
            try:
                self._protocol.connection_lost(error)
            finally:
                self._socket.close()


class TlsTransport(StreamTransport):
    """The same over TLS; an `SSLSocket` is not for two threads, so reading takes the lock too.

    Only the I/O thread reads: a readable socket does not tell that there is something to read. The
    handshake is made by reading; until it is done nothing is sent.
    """

    _socket: ssl.SSLSocket
    _may_lease = False

    def __init__(self, sock: Any, protocol: AbstractStreamProtocol, loop: Loop) -> None:
        super().__init__(sock, protocol, loop)
        self._blocked = self._waits_to_read = True
        loop.add_callback(self._read)

    def _send_some(self, data: Any) -> int:
        whole, sent = memoryview(data), 0
        try:
            while sent < len(whole):
                count = self._socket.send(whole[sent:])  # one record at a time
                if not count:
                    raise ssl.SSLWantWriteError  # as it is told under gevent
                sent += count
        except ssl.SSLWantWriteError:
            self._blocked = True
            self._loop.add_callback(self._want_to_write)
        except ssl.SSLWantReadError:
            self._blocked = self._waits_to_read = True
        return sent

    def _receive(self) -> bytes:
        pieces = []
        try:
            with self._writing:
                pieces.append(self._socket.recv(_READ_SIZE))
                while pieces[-1] and self._socket.pending():
                    pieces.append(self._socket.recv(_READ_SIZE))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            if isinstance(error, ssl.SSLWantWriteError):
                self._want_to_write()
            if not pieces:
                raise BlockingIOError from None
        return b"".join(pieces)

    def _on_event(self, fd: int, events: int) -> None:
        if events & WRITE:
            events |= READ  # reading may have waited to write
        super()._on_event(fd, events)

    def _read(self) -> None:
        super()._read()
        if self._waits_to_read and self._socket.version():  # the handshake is done
            self._waits_to_read = False
            self._blocked = self._lost
        self.flush()  # a sender may have found the lock taken for reading
