"""A future and a queue by which coroutines wait for other threads.

Both reach the loop by `CoroutineLoop.call`, which wakes it once for many of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any, Generic, TypeVar, cast

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.errors import StoppedError

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")


class LoopFuture(Generic[T]):
    """A result or an error that any thread sets, and that coroutines of one loop wait for.

    The first outcome counts: `dict.setdefault` is one step. The loop appends to `_waiters` and
    looks afterwards whether the outcome is there. Only an outcome that is waited for wakes the
    loop.

    Args:
        loop: where it is awaited.
    """

    __slots__ = ("_loop", "_outcome", "_waiters")

    def __init__(self, loop: CoroutineLoop) -> None:
        self._loop = loop
        self._outcome: dict[None, tuple[T | None, BaseException | None]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_done(self) -> bool:
        """Whether it has a result or an error, or was cancelled."""
        return bool(self._outcome)

    @property
    def error(self) -> BaseException | None:
        """The error; None where there is none."""
        return self._outcome[None][1] if self._outcome else None

    # -- any thread ----------------------------------------------------------------------------

    def resolve(self, value: T) -> bool:
        """Set the result.

        Returns:
            Whether it was the first outcome; a later one is dropped.
        """
        return self._set((value, None))

    def fail(self, error: BaseException) -> bool:
        """Set the error; returns as `resolve`."""
        return self._set((None, error))

    def _set(self, outcome: tuple[T | None, BaseException | None]) -> bool:
        if self._outcome.setdefault(None, outcome) is not outcome:
            return False
        if self._waiters:
            with suppress(StoppedError):  # the coroutine has ended with its loop
                self._loop.call(self._wake)
        return True

    # -- the loop ------------------------------------------------------------------------------

    async def wait(self, timeout: float, late: Callable[[], BaseException]) -> T:
        """Wait for the outcome; return the result or raise the error.

        Args:
            timeout: how long to wait at most, in seconds.
            late: makes the error that is raised when that time is over.
        """
        if not self._outcome:
            waiter = self._loop.loop.create_future()
            self._waiters.append(waiter)
            if not self._outcome:
                await _wait_at_most(waiter, timeout)
            if not self._outcome:
                raise late()
        value, error = self._outcome[None]
        if error is not None:
            raise self._as_raised(error)
        return cast("T", value)

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return what is raised for an error, where it is awaited."""
        return error

    def cancel(self, undo: Callable[[T], object] | None = None) -> None:
        """Drop the outcome, which is no longer waited for.

        Args:
            undo: called with the result if there is one already.
        """
        cancelled = (None, asyncio.CancelledError())
        value, error = self._outcome.setdefault(None, cancelled)
        if error is None and undo is not None:
            undo(cast("T", value))

    def _wake(self) -> None:
        while self._waiters:
            _set(self._waiters.pop())


class LoopMailbox(Generic[T]):
    """A first-in, first-out queue from any threads to one coroutine at a time.

    The loop owns what is in it.

    Args:
        loop: where items are taken.
    """

    __slots__ = ("_items", "_loop", "_waiter")

    def __init__(self, loop: CoroutineLoop) -> None:
        self._loop = loop
        self._items: deque[T] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        """Add an item; any thread may, and never waits."""
        try:
            self._loop.call(self.put_here, item)
        except StoppedError:
            LOG.debug("an event for a coroutine is dropped: its loop has ended")

    def another(self) -> LoopMailbox[Any]:
        """Return an empty one for the same loop."""
        return LoopMailbox(self._loop)

    # -- the loop ------------------------------------------------------------------------------

    def put_here(self, item: T) -> None:
        """Add an item, on the loop."""
        self._items.append(item)
        if self._waiter is not None:
            _set(self._waiter)

    async def get(self, deadline: float) -> T:
        """Remove and return the oldest item.

        Args:
            deadline: until when to wait for one, on the monotonic clock, in seconds.

        Raises:
            queue.Empty: none came in time.
        """
        if not self._items:
            waiter = self._waiter = self._loop.loop.create_future()
            try:
                await _wait_at_most(waiter, deadline - time.monotonic())
            finally:
                self._waiter = None
            if not self._items:
                raise Empty
        return self._items.popleft()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _wait_at_most(waiter: asyncio.Future[None], seconds: float) -> None:
    timer = waiter.get_loop().call_later(max(0.0, seconds), _set, waiter)
    try:
        await waiter
    finally:
        timer.cancel()
