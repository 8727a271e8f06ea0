"""Calls that wait for the broker, made on threads of our own and awaited.

They must not block an asyncio loop, and its own executor is for its owner's work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.threads.on_demand import OnDemandThread

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")

_PAUSE = 0.01


class BlockingCalls:
    """Make calls that block, for one asyncio loop, which owns this object.

    There are as many threads as calls, up to ``size``; each ends when no call is left.

    Args:
        name: of the threads.
        loop: where the calls are awaited.
        size: how many threads there may be.
    """

    def __init__(self, name: str, loop: CoroutineLoop, size: int = 8) -> None:
        self._name = name
        self._loop = loop
        self._jobs: deque[Callable[[], object]] = deque()
        self._threads = [OnDemandThread(name) for _ in range(size)]

    async def run(
        self,
        function: Callable[[], T],
        *,
        timeout: float,
        what: str,
        undo: Callable[[T], object] | None = None,
        in_any_case: bool = False,
    ) -> T:
        """Make a call and await its result.

        When the wait is cancelled or takes too long, a call that has not begun is not made, unless
        ``in_any_case`` is set. One that has begun goes on.

        Args:
            function: what to call.
            timeout: how long to wait, in seconds.
            what: what it does, for the message of an error.
            undo: called with the result, on such a thread, if nothing waits for it any more.
            in_any_case: make the call also when nothing waits for it any more.

        Returns:
            What the function returned.

        Raises:
            WaitTimeoutError: it did not end in time.
            Exception: what the function raised.
        """
        future = self.begin(function, undo, in_any_case)
        try:
            return await wait_for(future, timeout, what)
        except BaseException:
            if undo is None:
                future.cancel()
            else:
                future.cancel(lambda result: self._add(partial(self._undo, undo, result)))
            raise

    def begin(
        self,
        function: Callable[[], T],
        undo: Callable[[T], object] | None = None,
        in_any_case: bool = False,
    ) -> LoopFuture[T]:
        """Make a call and return a future, for any number of coroutines; see `run`."""
        future: LoopFuture[T] = LoopFuture(self._loop)
        self._add(partial(self._make, function, future, undo, in_any_case))
        return future

    async def wait_until_done(self, timeout: float) -> bool:
        """Wait for at most so many seconds until no thread is left; return whether none is."""
        deadline = time.monotonic() + timeout
        while busy := sum(thread.is_busy for thread in self._threads):
            if time.monotonic() >= deadline:
                LOG.warning("%s: %d calls have not ended in time", self._name, busy)
                return False
            await asyncio.sleep(_PAUSE)
        return all(thread.wait_until_done(_PAUSE) for thread in self._threads)

    def _add(self, job: Callable[[], object]) -> None:
        self._jobs.append(job)
        # where all are busy, the first that is free makes it
        idle = (thread for thread in self._threads if not thread.is_busy)
        next(idle, self._threads[0]).call(self._work)

    # -- the threads ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return  # another thread has made it
            job()

    def _make(
        self,
        function: Callable[[], T],
        future: LoopFuture[T],
        undo: Callable[[T], object] | None,
        in_any_case: bool,
    ) -> None:
        if future.is_done and not in_any_case:
            return  # it is no longer waited for
        try:
            result = function()
        except BaseException as error:
            if not future.fail(error):
                LOG.debug("%s: a call failed that is no longer waited for: %s", self._name, error)
            return
        if not future.resolve(result) and undo is not None:
            self._undo(undo, result)

    def _undo(self, undo: Callable[[Any], object], result: Any) -> None:
        with Guard("%s: undoing a call", self._name):
            undo(result)


async def wait_for(future: LoopFuture[T], timeout: float, what: str) -> T:
    """Wait for the result of a call; raise `WaitTimeoutError`, which names it, after a time."""
    return await future.wait(
        timeout, lambda: WaitTimeoutError(f"{what}: not done within {timeout:g} s")
    )
