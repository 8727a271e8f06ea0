"""Calls on threads of their own: one after another as they come, or at an interval."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from neon_mq_connector.errors import MQError
from neon_mq_connector.threads.guard import Guard

LOG = logging.getLogger("neon_mq_connector.timer")


class OnDemandThread:
    """Make calls that may have to wait, in the order in which any threads ask for them.

    For threads that must not wait themselves: an I/O thread, the control thread, an asyncio loop.
    The thread that makes the calls is there while needed. Nothing is locked: the thread that takes
    the only item out of `_idle` starts it, and it puts the item back. `del` of an item is one step,
    so no exception of a signal handler can come between it and the ``try`` that follows.

    Args:
        name: of the thread. It starts with the first call and ends with the last.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._guard = Guard("%s: a call", name)
        self._waiting: deque[Callable[[], object]] = deque()
        self._idle = [None]
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call is being made or waits."""
        return not self._idle

    def call(self, function: Callable[[], object]) -> None:
        """Call a function soon; an exception of it is logged."""
        self._waiting.append(function)
        try:
            del self._idle[0]
        except IndexError:
            return  # there is a thread; it looks again when it has put the item back
        try:
            thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            thread.start()
        except BaseException:
            self._idle.append(None)
            raise
        self._thread = thread

    def wait_until_done(self, timeout: float) -> bool:
        """Wait for at most so many seconds; return whether all calls have been made."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        return not self.is_busy

    def _run(self) -> None:
        while True:
            while self._waiting:
                with self._guard:
                    self._waiting.popleft()()
            self._idle.append(None)
            if not self._waiting:
                return
            try:
                del self._idle[0]
            except IndexError:
                return  # another thread has been started


class RepeatingTimer(threading.Timer):
    """A `threading.Timer` that does not end after the first time.

    Args are those of `threading.Timer`: the interval in seconds, the function, its arguments. The
    first call comes after one interval. A call that raises is logged; the next one comes all the
    same.
    """

    def run(self) -> None:
        """Call the function at each interval; called by `start`."""
        while not self.finished.wait(self.interval):
            with Guard("timer %s: a call", self.name):
                try:
                    self.function(*self.args, **self.kwargs)
                except MQError as error:
                    LOG.warning(
                        "timer %s: %s; it is tried again in %g s", self.name, error, self.interval
                    )
