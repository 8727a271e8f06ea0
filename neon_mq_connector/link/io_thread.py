"""The I/O thread of a link: it runs a loop, and another one when that has failed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link.loop import Loop
from neon_mq_connector.threads.quiet import quiet_pika

LOG = logging.getLogger("neon_mq_connector.link")


class IOThread:
    """A thread that serves one loop after another until it is told to stop.

    `_lock` owns the thread, the loop and the move to `_closing`. It is reentrant: a signal handler
    that calls ``stop()`` may interrupt its holder.

    Attributes:
        name: of the thread; every log line and error carries it.
        blocked_reason: why the broker has blocked publishing; None when it has not.
        last_tick: when the thread was last seen alive, on the monotonic clock, in seconds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocked_reason: str | None = None
        self.last_tick = 0.0
        self._closing = False
        self._loop: Loop | None = None  # None before the start and after the end
        self._lock = threading.RLock()
        self._outbox: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._thread_id = 0

    # -- any thread ----------------------------------------------------------------------------

    @property
    def is_io_thread(self) -> bool:
        """Whether the calling thread is this one, which owns the connection."""
        return self._thread_id == threading.get_ident()

    def submit(self, work: Callable[[], object]) -> None:
        """Call something soon on the I/O thread; work is done in the order of the calls.

        Raises:
            StoppedError: the link was closed.
        """
        self._outbox.append(work)
        loop = self._loop
        if loop is None:
            raise StoppedError(f"{self.name} is closed")
        loop.wake()

    def call_later(self, delay: float, work: Callable[[], object]) -> None:
        """Call something on the I/O thread after a delay in seconds.

        Raises:
            StoppedError: the link was closed.
        """
        self.submit(lambda: self.set_timer(delay, work))

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        """Call something that wakes another thread once the I/O thread has nothing else to do.

        Called on another thread, it is called at once.
        """
        loop = self._loop
        if loop is not None and self.is_io_thread:
            loop.call_last(call, argument)
        else:
            call(argument)

    def delay_reads(self, seconds: float) -> None:
        """Delay what the I/O thread reads next, as `Loop.delay_reads` does.

        Called on another thread, which has read in its place, it does nothing.
        """
        loop = self._loop
        if loop is not None and self.is_io_thread:
            loop.delay_reads(seconds)

    def _start(self) -> None:
        """Start the thread if it does not run yet."""
        with self._lock:
            if self._closing:
                raise StoppedError(f"{self.name} is closed")
            if self._thread is None:
                self._loop = Loop(self._outbox)
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    # -- I/O thread ----------------------------------------------------------------------------

    def _begin(self, loop: Loop) -> None:
        """Prepare a loop that is about to be served."""
        raise NotImplementedError

    def _loop_failed(self) -> None:
        """Clean up after a loop that has failed, by a fault of pika's."""
        raise NotImplementedError

    def _ended(self) -> None:
        """Clean up after the last loop; work that is left is done then."""
        raise NotImplementedError

    def set_timer(self, delay: float, work: Callable[[], object]) -> None:
        """Call something after a delay in seconds, unless the loop ends before."""
        if self._loop is not None:
            self._loop.call_later(delay, work)

    def _stop_loop(self) -> None:
        """End the loop; without one that is to follow the thread ends."""
        if self._loop is not None:
            # not stop() itself: a loop that was not started yet would forget it
            self._loop.add_callback(self._loop.stop)

    @quiet_pika()
    def _run(self) -> None:
        self._thread_id = threading.get_ident()
        while not self._serve() and not self._closing:
            pass
        with self._lock:
            loop, self._loop = self._loop, None
            self._thread_id = 0
        self._ended()
        for _ in range(len(self._outbox)):
            try:
                self._outbox.popleft()()
            except Exception:
                LOG.exception("%s: work for the I/O thread failed", self.name)
        if loop is not None:
            loop.close()

    def _serve(self) -> bool:
        """Serve the loop to its end; return False if it failed, and another takes its place."""
        loop = self._loop
        assert loop is not None
        try:
            self._begin(loop)
            loop.start()
        except Exception:
            LOG.exception("%s: the loop failed, starting another", self.name)
            self._loop_failed()
            with self._lock:
                self._loop = Loop(self._outbox)
            loop.close()
            return False
        return True
