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


class LoopThread:
    """A thread that serves one loop after another until it is told to stop.

    `_lock` owns the thread, the loop and the move to `closing`. It is reentrant: a signal handler
    that calls ``stop()`` may interrupt its holder.

    Args:
        name: of the thread.
        begin: called on the thread with each loop before it is served.
        failed: called on the thread when a loop has failed, by a fault of pika's.
        ended: called on the thread when the last loop has ended; work that is left is done then.

    Attributes:
        closing: whether the thread is to end.
        loop: what it serves; None before the start and after the end.
    """

    def __init__(
        self,
        name: str,
        *,
        begin: Callable[[Loop], object],
        failed: Callable[[], object],
        ended: Callable[[], object],
    ) -> None:
        self.closing = False
        self.loop: Loop | None = None
        self._name = name
        self._begin = begin
        self._failed = failed
        self._ended = ended
        self._lock = threading.RLock()
        self._outbox: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._thread_id = 0

    # -- any thread ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread if it does not run yet.

        Raises:
            StoppedError: it was closed.
        """
        with self._lock:
            if self.closing:
                raise StoppedError(f"{self._name} is closed")
            if self._thread is not None:
                return
            self.loop = Loop(self._outbox)
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def close(self) -> threading.Thread | None:
        """Start no more loops; return the thread, if there is one."""
        with self._lock:
            self.closing = True
            return self._thread

    def submit(self, work: Callable[[], object]) -> None:
        """Call something on the thread: see `Link.submit`."""
        self._outbox.append(work)
        loop = self.loop
        if loop is None:
            raise StoppedError(f"{self._name} is closed")
        loop.wake()

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return self._thread_id == threading.get_ident()

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        """Call something before the loop sleeps: see `Link.call_last`."""
        loop = self.loop
        if loop is not None and self.is_current:
            loop.call_last(call, argument)
        else:
            call(argument)

    def delay_reads(self, seconds: float) -> None:
        """Delay what is read next: see `Link.delay_reads`."""
        loop = self.loop
        if loop is not None and self.is_current:
            loop.delay_reads(seconds)

    # -- the thread ----------------------------------------------------------------------------

    def call_later(self, delay: float, work: Callable[[], object]) -> None:
        """Call something after a delay in seconds, unless the loop ends before."""
        if self.loop is not None:
            self.loop.call_later(delay, work)

    def stop_loop(self) -> None:
        """End the loop; without one that is to follow the thread ends."""
        if self.loop is not None:
            # not stop() itself: a loop that was not started yet would forget it
            self.loop.add_callback(self.loop.stop)

    def _run(self) -> None:
        self._thread_id = threading.get_ident()
        with quiet_pika():
            while not self._serve() and not self.closing:
                pass
            with self._lock:
                loop, self.loop = self.loop, None
                self._thread_id = 0
            self._ended()
            for _ in range(len(self._outbox)):
                try:
                    self._outbox.popleft()()
                except Exception:
                    LOG.exception("%s: work for the I/O thread failed", self._name)
            if loop is not None:
                loop.close()

    def _serve(self) -> bool:
        """Serve the loop to its end; return False if it failed, and another takes its place."""
        loop = self.loop
        assert loop is not None
        try:
            self._begin(loop)
            loop.start()
        except Exception:
            LOG.exception("%s: the loop failed, starting another", self._name)
            self._failed()
            with self._lock:
                self.loop = Loop(self._outbox)
            loop.close()
            return False
        return True
