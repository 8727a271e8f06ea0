"""Read frames from a socket: on the I/O thread, or on a thread that waits for an answer.

To have an answer brought by the I/O thread costs two changes of thread, which is more than all else
that a single request does. So a thread that waits alone may read the socket itself until its answer
is there, and hands on what comes for others. Meanwhile the loop does not watch the socket.

Each time the socket is readable it is read once, so that connections take turns. Frames for pika
reach it on the I/O thread only, and in their order: another thread that meets one gives up reading,
and the I/O thread goes on from that frame.
"""

from __future__ import annotations

import select
import signal
import threading
import time
from collections.abc import Callable

from pika.adapters.utils.nbio_interface import AbstractStreamProtocol

from neon_mq_connector.errors import ConnectionLostError, FrameError
from neon_mq_connector.link.loop import READ, WRITE, Loop, Waker
from neon_mq_connector.link.parser import FrameParser
from neon_mq_connector.threads import forking

_FIRST_FRAME_MAX = 131_072
_INTERRUPTED = ConnectionLostError("a thread was interrupted while it was reading")
#: How often a holder renews its lease, in seconds: its answer may come from elsewhere.
_RENEWAL = 0.02
#: A lease that was not renewed for so long is revoked, in seconds.
_LEASE_TIME = 0.1
#: Signals on which programs stop, or end a task that takes too long.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
_NO_HANDLERS = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)
#: Until when the answer below holds, and the answer: to look costs 5 % of a request. The main
#: thread's alone.
_found = [0.0, False]
_main_thread = threading.main_thread().ident


def _after_fork() -> None:
    """Note the thread that has forked, which is the only one of the child."""
    global _main_thread
    _main_thread = threading.get_ident()


forking.call_in_child(_after_fork)


def _may_be_interrupted() -> bool:
    """Whether a signal handler of the program may interrupt this thread."""
    if threading.get_ident() != _main_thread:
        return False
    now = time.monotonic()
    if now >= _found[0]:
        found = any(signal.getsignal(number) not in _NO_HANDLERS for number in _SIGNALS)
        _found[:] = now + 0.1, found
    return bool(_found[1])


class ReadLease:
    """Which thread reads a socket: the I/O thread, unless another has taken the lease.

    A holder that does not renew it, since a signal handler has interrupted it or a debugger holds
    it, loses it by the timer of the I/O thread. So nothing depends on the holder.

    `reading` is held while something is read and handled; its holder owns the parser, and what the
    frames are entered in. `_lock` owns who holds the lease and what the loop watches.

    Args:
        fd: the socket.
        watch: has the loop watch for these events of a socket; called on any thread.

    Attributes:
        holder: what stands for the thread that has the lease; None for the I/O thread.
        is_closed: whether the socket is not read any more.
    """

    def __init__(self, fd: int, watch: Callable[[int, int], object]) -> None:
        self.reading = threading.RLock()  # the end of the connection may be found while reading
        self._fd = fd
        self._watch = watch
        self._lock = threading.Lock()
        self.holder: object | None = None
        self._renewed_at = 0.0
        self._waits_to_write = False
        self.is_closed = False

    def acquire(self) -> object | None:
        """Take the lease; return its holder, None when there is another or no socket any more."""
        with self._lock:
            return None if self.holder is not None or self.is_closed else self._give()

    def renew(self, holder: object) -> bool:
        """Renew the lease; return whether it was still held."""
        self._renewed_at = time.monotonic()
        return self.holder is holder and not self.is_closed

    def release(self, holder: object) -> None:
        """Return the lease to the I/O thread, unless it was revoked."""
        with self._lock:
            if self.holder is holder:
                self.holder = None
                self._update()

    def transfer(self) -> object | None:
        """Take the lease from its holder, so that no thread reads before it is released.

        To be called with `reading` held.
        """
        with self._lock:
            return self._give()

    def revoke_expired(self) -> None:
        """Return the lease to the I/O thread when it was not renewed in time."""
        with self._lock:
            if self.holder is not None and time.monotonic() - self._renewed_at > _LEASE_TIME:
                self.holder = None
                self._update()

    def watch_writable(self, wanted: bool) -> None:
        """Watch, or no longer watch, for when the socket can be written to."""
        with self._lock:
            self._waits_to_write = wanted
            self._update()

    def close(self) -> None:
        """Let no thread read any more."""
        with self._lock:
            self.is_closed = True
            self.holder = None

    def _give(self) -> object | None:
        self.holder = holder = object()
        self._renewed_at = time.monotonic()
        self._update()
        return None if self.is_closed else holder

    def _update(self) -> None:
        if self.is_closed:
            return
        events = (READ if self.holder is None else 0) | (WRITE if self._waits_to_write else 0)
        try:
            self._watch(self._fd, events)
        except (OSError, ValueError):  # the loop has ended, and with it the socket
            self.is_closed = True


class _FrameForPika(Exception):
    """A frame came that only the I/O thread may hand to pika."""


class Reader:
    """Read one socket.

    The thread that holds `lease.reading` owns the parser, `taken`, `_holds_lease` and
    `_frame_for_pika`; the holder of the lease owns `_holder_thread`.

    Args:
        fd: the socket.
        protocol: pika's; it gets all frames but those that channels take themselves.
        loop: of the I/O thread, where the socket is watched.
        receive: reads once, and raises `BlockingIOError` when there is nothing.
        end: ends the connection, for a reason or for none; called on the I/O thread.
        may_lease: whether other threads than the I/O thread may read.

    Attributes:
        parser: what takes the frames apart.
        lease: which thread reads.
        taken: how many bytes of frames did not reach pika.
        fault: what is wrong with what came, if that is why the connection ended: pika knows no more
            than that it did.
    """

    def __init__(
        self,
        fd: int,
        protocol: AbstractStreamProtocol,
        loop: Loop,
        *,
        receive: Callable[[], bytes],
        end: Callable[[BaseException | None], object],
        may_lease: bool,
    ) -> None:
        self.parser = FrameParser(self._pass_on, _FIRST_FRAME_MAX)
        self.lease = ReadLease(fd, loop.watch)
        self.taken = 0
        self.fault: FrameError | None = None
        self._fd = fd
        self._protocol = protocol
        self._loop = loop
        self._receive = receive
        self._end = end
        self._may_lease = may_lease
        self._holds_lease = False
        self._frame_for_pika = b""
        self._waker = Waker()
        self._holder_thread = 0

    # -- a thread that waits for an answer -----------------------------------------------------

    def read_until(
        self, done: Callable[[], object], deadline: float, *, wakeable: bool = False
    ) -> None:
        """Read in place of the I/O thread until something is done, if that is possible.

        Returns early when another thread does so, or the lease was lost. A thread that a handler
        may interrupt does not read: what ``stop()`` in the handler waits for would be left to it,
        and an exception of the handler may end the connection.

        Args:
            done: whether it is.
            deadline: until when to read, on the monotonic clock, in seconds.
            wakeable: whether `wake` makes it look whether it is done, and traffic for others does
                not keep it reading.
        """
        if not self._may_lease or _may_be_interrupted():
            return
        lease = self.lease
        holder = lease.acquire()
        if holder is None:
            return
        try:
            with lease.reading:
                pass  # what the I/O thread is reading may be the answer
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if wakeable:
                poll.register(self._waker.fd, select.POLLIN)
                self._holder_thread = threading.get_ident()  # before it looks: see `wake`
            while not done():
                ready = poll.poll(_RENEWAL * 1000)
                for fd, _events in ready:
                    if fd == self._waker.fd:
                        self._waker.clear()
                    elif not self._read_as(holder):
                        return
                may_go_on = ready and not wakeable
                if not may_go_on and (time.monotonic() >= deadline or not lease.renew(holder)):
                    return
        finally:
            if self._holder_thread == threading.get_ident():  # and not that of the next holder
                self._holder_thread = 0
            lease.release(holder)

    def wake(self) -> None:
        """Let the thread that reads in place of the I/O thread look whether it is done."""
        if self._holder_thread not in (0, threading.get_ident()):
            self._waker.wake()

    def close(self) -> None:
        """Let no thread read any more."""
        self.lease.close()
        self._waker.close()

    def _read_as(self, holder: object) -> bool:
        """Read once as the holder of the lease; return whether it may go on."""
        with self.lease.reading:
            if not self.lease.renew(holder):
                return False
            try:
                self._holds_lease = True
                data = self._receive()
                if data:
                    self.taken += self.parser.feed(data)
                return bool(data)  # the I/O thread finds the end of the connection
            except BlockingIOError:
                return True
            except _FrameForPika:
                self._call_io_thread(self._resume)
            except Exception as error:
                fault = self._judge(error)
                self._call_io_thread(lambda: self._end(fault))
            except BaseException:
                # an interrupt: it is not known what has been handled
                self._call_io_thread(lambda: self._end(_INTERRUPTED))
                raise
            finally:
                self._holds_lease = False
            return False

    def _call_io_thread(self, call: Callable[[], object]) -> None:
        """Call something on the I/O thread before reading goes on."""
        lease = self.lease
        holder = lease.transfer()

        def do_it() -> None:
            with lease.reading:
                if not lease.is_closed:
                    call()
            lease.release(holder)

        self._loop.add_callback(do_it)

    # -- I/O thread ----------------------------------------------------------------------------

    def read(self) -> None:
        """Read once, unless another thread reads; the socket may be readable."""
        with self.lease.reading:
            if self.lease.holder is None and not self.lease.is_closed:
                self._read_once()

    def _read_once(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._feed(data)
        else:
            self._protocol.eof_received()
            self._end(None)

    def _feed(self, data: bytes, frame: bytes = b"") -> None:
        try:
            if frame:
                self._protocol.data_received(frame)
            self.taken += self.parser.feed(data)
        except Exception as error:  # bytes that make no sense, to us or to pika
            self._end(self._judge(error))

    def _resume(self) -> None:
        """Go on from the frame for pika that another thread has met."""
        frame, self._frame_for_pika = self._frame_for_pika, b""
        self._feed(b"", frame)

    # -- the thread that reads -----------------------------------------------------------------

    def _pass_on(self, frame: bytes) -> None:
        if self._holds_lease:
            self._frame_for_pika = frame
            raise _FrameForPika
        self._protocol.data_received(frame)

    def _judge(self, error: Exception) -> Exception:
        """Note what is wrong with what came, if it is that."""
        if isinstance(error, FrameError):
            self.fault = error
        elif not isinstance(error, OSError):
            self.fault = FrameError(f"AMQP frames that make no sense: {error!r}")
        return error
