"""Read frames from a socket: on the I/O thread, or for a while on one that waits for an answer.

What is read goes through our `FrameParser`, one read for each time that the socket is readable, so
that connections and queues take turns. Frames for pika reach it on the I/O thread only, in their
order: a leader that meets one gives up its turn, and the I/O thread goes on from there.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from pika.adapters.utils.nbio_interface import AbstractStreamProtocol

from neon_mq_connector.errors import ConnectionLostError, FrameError
from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.parser import FrameParser
from neon_mq_connector.link.turn import Turn
from neon_mq_connector.threads.interruption import handlers_may_interrupt

_FIRST_FRAME_MAX = 131_072
_INTERRUPTED = ConnectionLostError("a thread was interrupted while it was reading")
#: A leader shows itself so often, in seconds: its answer may come from elsewhere.
_SIGN = 0.02


class _NotOurs(Exception):
    """A frame for pika came, which only the I/O thread may give to it."""


class Reader:
    """Read one socket.

    Whoever holds `turn.reading` owns the parser, what frames are entered in, `_leads` and
    `_left_over`.

    Args:
        fd: the socket.
        protocol: pika's; it gets all frames but those that channels take themselves.
        loop: of the I/O thread, where the socket is watched.
        receive: reads once, and raises `BlockingIOError` when there is nothing.
        end: ends the connection, for a reason or for none; called on the I/O thread with the turn
            to read held.
        on_taken: called with how many bytes of frames were taken by channels.

    Attributes:
        parser: what takes the frames apart.
        turn: whose turn it is to read.
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
        on_taken: Callable[[int], object],
    ) -> None:
        self.parser = FrameParser(self._pass_on, _FIRST_FRAME_MAX)
        self.turn = Turn(fd, loop.look_for)
        self.fault: FrameError | None = None
        self._fd = fd
        self._protocol = protocol
        self._loop = loop
        self._receive = receive
        self._end = end
        self._on_taken = on_taken
        self._leads = False
        self._left_over = b""

    # -- a thread that waits for an answer -----------------------------------------------------

    def lead(self, done: Callable[[], object], deadline: float) -> None:
        """Read what comes until something is done, in place of the I/O thread, if that is possible.

        Args:
            done: says whether it is.
            deadline: until when to read, on the monotonic clock, in seconds.
        """
        # where a signal handler may stop the service, what it waits for is not left to the thread
        # that it has interrupted
        if not self._loop.can_pause or handlers_may_interrupt():
            return
        turn = self.turn
        leader = turn.begin()
        if leader is None:
            return
        try:
            # what the I/O thread is at it ends first: the answer may be in it
            try:
                if not turn.reading.acquire(timeout=_SIGN):
                    return
            finally:
                try:  # noqa: SIM105 - as in `_read_for`
                    turn.reading.release()
                except RuntimeError:
                    pass
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            while not done():
                if poll.poll(_SIGN * 1000):
                    if not self._read_for(leader):
                        return
                elif time.monotonic() >= deadline or not turn.goes_on(leader):
                    return
        finally:
            turn.end(leader)

    def _read_for(self, leader: object) -> bool:
        """Read once as the leader; say whether it may go on."""
        turn = self.turn
        try:
            if not turn.reading.acquire(timeout=_SIGN):
                return False
            return self._read_as(leader)
        finally:
            # whether it was taken only the lock knows: an exception may have come right after that
            try:  # noqa: SIM105 - a call before the release would be a moment for another exception
                turn.reading.release()
            except RuntimeError:
                pass

    def _read_as(self, leader: object) -> bool:
        try:
            if not self.turn.goes_on(leader):
                return False
            self._leads = True
            data = self._receive()
            if data:
                self._on_taken(self.parser.feed(data))
            return bool(data)  # of the end the I/O thread takes notice
        except BlockingIOError:
            return True
        except _NotOurs:
            self._call_io_thread(self._go_on)
            return False
        except Exception as error:
            fault = self._judge(error)
            self._call_io_thread(lambda: self._end(fault))
            return False
        except BaseException:
            # an interrupt in between: nobody knows any more what was taken notice of
            self._call_io_thread(lambda: self._end(_INTERRUPTED))
            raise
        finally:
            self._leads = False

    def _call_io_thread(self, call: Callable[[], object]) -> None:
        """Have the I/O thread do something before anybody reads on."""
        turn = self.turn
        heir = turn.hand_over()

        def do_it() -> None:
            with turn.reading:  # nobody reads meanwhile: its holder is about to let go
                if not turn.is_over:
                    call()
            turn.end(heir)

        self._loop.add_callback(do_it)

    # -- I/O thread ----------------------------------------------------------------------------

    def read(self) -> None:
        """Read once, if it is the I/O thread's turn; the socket may be readable."""
        turn = self.turn
        if not turn.reading.acquire(timeout=_SIGN):
            return
        try:
            if not turn.is_led and not turn.is_over:
                self._read_once()
        finally:
            turn.reading.release()

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
            taken = self.parser.feed(data)
        except Exception as error:  # bytes that make no sense, to us or to pika
            self._end(self._judge(error))
            return
        if taken:
            self._on_taken(taken)

    def _go_on(self) -> None:
        """Go on where a leader has met a frame for pika."""
        frame, self._left_over = self._left_over, b""
        self._feed(b"", frame)

    # -- whoever reads -------------------------------------------------------------------------

    def _pass_on(self, frame: bytes) -> None:
        if self._leads:
            self._left_over = frame
            raise _NotOurs
        self._protocol.data_received(frame)

    def _judge(self, error: Exception) -> Exception:
        """Note what is wrong with what came, if it is that."""
        if isinstance(error, FrameError):
            self.fault = error
        elif not isinstance(error, OSError):
            self.fault = FrameError(f"AMQP frames that make no sense: {error!r}")
        return error
