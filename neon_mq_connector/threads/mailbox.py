"""A queue between threads whose time-outs hold whatever signal handlers do.

`SimpleQueue.get` with a time-out never returns, up to Python 3.11, if a handler still runs when the
time is up; ``stop()`` in a handler may take that long. `queue.Queue` has locks that ``stop()`` in a
handler may find held by the thread that was interrupted. Here nothing is locked: every step is one
operation of a deque, which is atomic, and a thread waits for a lock of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import Empty
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A first-in, first-out queue for any threads.

    Attributes:
        qsize: returns how many items wait.
    """

    __slots__ = ("_items", "_waiters", "qsize")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self.qsize = self._items.__len__
        # one for each thread that waits; the thread that takes it out releases it
        self._waiters: deque[threading.Lock] = deque()

    def put(self, item: T) -> None:
        """Add an item; never waits."""
        self._items.append(item)
        if self._waiters:
            self._wake_one()

    def get(self, timeout: float | None = None) -> T:
        """Remove and return the oldest item.

        Args:
            timeout: how long to wait for one, in seconds; None for ever.

        Raises:
            queue.Empty: none came in time.
        """
        items = self._items
        try:
            return items.popleft()
        except IndexError:
            pass
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            waiter = threading.Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            # looked at again: what came before the waiter was there does not wake it
            is_woken = bool(items)
            if not is_woken:
                left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
                is_woken = waiter.acquire(timeout=left)
            try:
                self._waiters.remove(waiter)
            except ValueError:
                # woken: if there is more than is taken here, the next waiter must not sleep on
                if len(items) > 1:
                    self._wake_one()
            try:
                return items.popleft()
            except IndexError:
                if not is_woken:
                    raise Empty from None

    def empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return not self._items

    def _wake_one(self) -> None:
        try:
            waiter = self._waiters.popleft()
        except IndexError:
            return
        waiter.release()
