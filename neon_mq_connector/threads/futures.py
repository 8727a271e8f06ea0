"""Futures that can be cancelled, and the thread that runs their callbacks and ends them in time.

A future is often settled by an I/O thread, which must not wait. So its callbacks run on a thread of
their own. A slow one delays other callbacks and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty
from typing import Protocol, TypeVar

from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.threads.mailbox import Mailbox

T = TypeVar("T")

_NEVER = float("inf")
#: How much later than asked for a future may end, in seconds: many end in one go.
_GRAIN = 0.05


class CancellableFuture(Future[T]):
    """A future whose cancelling wakes those who wait for it at once.

    One of the standard library does so when its executor comes to it; here there is none.
    """

    def __init__(self, on_cancel: Callable[[], object] | None = None) -> None:
        super().__init__()
        self._on_cancel = on_cancel
        # popping from a list is atomic: the thread that gets the item wakes those who wait
        self._untold = [None]

    def cancel(self) -> bool:
        """Wait no longer; what was asked for may still be done."""
        on_cancel = self._on_cancel
        if not super().cancel():
            return False
        try:
            self._untold.pop()
        except IndexError:
            return True
        self.set_running_or_notify_cancel()
        self.release()
        if on_cancel is not None:
            on_cancel()
        return True

    def release(self) -> None:
        """Break a circle of references, which would wait for the garbage collector."""
        self._on_cancel = None


class Expiring(Protocol):
    """What ends at a deadline, on the monotonic clock."""

    @property
    def deadline(self) -> float: ...

    def expire(self) -> object:
        """End it, unless it has ended."""


class FutureThread:
    """Expire futures at their deadlines, and run their callbacks.

    `_pending` has one key per future; any thread may add and remove. `_next_check` is written by
    the thread, which starts with the first use.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._guard = Guard("%s: a callback of a future", name)
        self._mail: Mailbox[Callable[[], object] | None] = Mailbox()
        self._pending: dict[Expiring, None] = {}
        self._next_check = _NEVER
        self._stopping = False
        self._thread: threading.Thread | None = None
        # popping from a list is atomic: the thread that gets the item starts this one
        self._unstarted = [None]

    # -- any thread ----------------------------------------------------------------------------

    def expect(self, future: Expiring) -> None:
        """Expire a future at its deadline."""
        self._pending[future] = None
        if self._thread is None:
            self._start()
        if future.deadline < self._next_check:
            self._mail.put(None)

    def forget(self, future: Expiring) -> None:
        """Do not expire a future: it has ended."""
        self._pending.pop(future, None)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the thread; an exception of it is logged."""
        self._mail.put(function)
        if self._thread is None:
            self._start()

    def stop(self, timeout: float) -> bool:
        """End the thread when it has made its calls; return whether it did in so many seconds."""
        self._stopping = True
        self._mail.put(None)
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _start(self) -> None:
        try:
            self._unstarted.pop()
        except IndexError:
            return  # another thread does it
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except BaseException:
            self._unstarted.append(None)
            raise
        self._thread = thread

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._stopping and self._mail.empty()):
            function = None  # not to keep an answer alive while waiting for the next
            with suppress(Empty):
                function = self._mail.get(timeout=self._time_to_wait())
            if function is not None:
                with self._guard:
                    function()
            if function is None or time.monotonic() >= self._next_check:
                self._end_late()

    def _time_to_wait(self) -> float | None:
        if self._next_check == _NEVER:
            return None
        return max(0.0, self._next_check - time.monotonic())

    def _end_late(self) -> None:
        now = time.monotonic()
        self._next_check = _NEVER  # a thread that adds one from here on wakes this one
        next_check = _NEVER
        for future in list(self._pending):
            if future.deadline <= now:
                self.forget(future)
                with self._guard:
                    future.expire()
            else:
                next_check = min(next_check, future.deadline)
        self._next_check = max(next_check, now + _GRAIN)
