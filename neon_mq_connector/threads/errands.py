"""Calls that may have to wait, made one after another on a thread that is there while needed.

What must not wait itself (an I/O thread, the control thread, an asyncio loop) leaves them to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from neon_mq_connector.threads.guard import Guard


class Errands:
    """Make calls in the order in which they are given; any thread may give them.

    Nothing is locked: whoever takes the only item out of `_idle` starts the thread, and the thread
    puts it back. `del` of an item is one step, so no exception of a signal handler can come between
    it and the ``try`` that follows.

    Args:
        name: of the thread. It starts with the first call and ends with the last.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._guard = Guard("%s: a call", name)
        self._waiting: deque[Callable[[], object]] = deque()
        self._idle = [None]
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call is being made or waits."""
        return not self._idle

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called soon; an exception of it is logged."""
        self._waiting.append(function)
        try:
            del self._idle[0]
        except IndexError:
            return  # there is a thread; it looks again when it has put the item back
        try:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
        except BaseException:
            self._idle.append(None)
            raise
        self._thread = thread

    def wait_until_done(self, timeout: float) -> bool:
        """Wait for the end of all calls.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether all have been made.
        """
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
