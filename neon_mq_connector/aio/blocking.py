"""Calls that wait for the broker, made on threads of our own and awaited.

An asyncio loop must not be held up by them, and its own executor is for its owner's work.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.threads.guard import Guard

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")

_PAUSE = 0.01


class BlockingCalls:
    """Make calls that block, for one asyncio loop.

    There are as many threads as there are calls to make, up to a number; each ends when there is
    nothing left for it. `_lock` owns the threads and the calls that wait for one; it is held for
    moments.

    Args:
        name: of the threads.
        loop: where the calls are awaited.
        size: how many threads there may be.
    """

    def __init__(self, name: str, loop: CoroutineLoop, size: int = 8) -> None:
        self._name = name
        self._loop = loop
        self._size = size
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._threads: set[threading.Thread] = set()

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
        it is to be made in any case; one that has goes on.

        Args:
            function: what to call.
            timeout: how long to wait, in seconds.
            what: what it does, for the message of an error.
            undo: called with the result, on such a thread, if nobody waits for it any more.
            in_any_case: make the call also when nobody waits for it any more, since it puts
                something in order.

        Returns:
            What the function returned.

        Raises:
            WaitTimeoutError: it did not end in time.
            Exception: what the function raised.
        """
        future = self.begin(function, undo=undo, in_any_case=in_any_case)
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
        *,
        undo: Callable[[T], object] | None = None,
        in_any_case: bool = False,
    ) -> LoopFuture[T]:
        """Make a call, whose result any number of coroutines may wait for.

        Args:
            function: what to call.
            undo: as for `run`, when the future is cancelled.
            in_any_case: as for `run`.
        """
        future: LoopFuture[T] = LoopFuture(self._loop)
        self._add(partial(self._make, function, future, undo, in_any_case))
        return future

    async def wait_until_done(self, timeout: float) -> bool:
        """Wait until there is no thread any more.

        Args:
            timeout: how long, in seconds.

        Returns:
            Whether there is none; those that are left are counted in the log.
        """
        deadline = time.monotonic() + timeout
        while left := [thread for thread in tuple(self._threads) if thread.is_alive()]:
            if time.monotonic() >= deadline:
                LOG.warning("%s: %d calls have not ended in time", self._name, len(left))
                return False
            await asyncio.sleep(_PAUSE)
        return True

    def _add(self, job: Callable[[], object]) -> None:
        with self._lock:
            if len(self._threads) >= self._size:
                self._jobs.append(job)
                return
            thread = threading.Thread(target=self._work, args=(job,), name=self._name, daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._threads.discard(thread)
            raise

    # -- the threads ---------------------------------------------------------------------------

    def _work(self, job: Callable[[], object]) -> None:
        while True:
            job()
            with self._lock:
                if not self._jobs:
                    self._threads.discard(threading.current_thread())
                    return
                job = self._jobs.popleft()

    def _make(
        self,
        function: Callable[[], T],
        future: LoopFuture[T],
        undo: Callable[[T], object] | None,
        in_any_case: bool,
    ) -> None:
        if future.is_done and not in_any_case:
            return  # nobody waits for it any more
        try:
            result = function()
        except BaseException as error:
            if not future.fail(error):
                LOG.debug("%s: a call failed that nobody waits for: %s", self._name, error)
            return
        if not future.resolve(result) and undo is not None:
            self._undo(undo, result)

    def _undo(self, undo: Callable[[Any], object], result: Any) -> None:
        with Guard("%s: undoing what nobody waits for", self._name):
            undo(result)


async def wait_for(future: LoopFuture[T], timeout: float, what: str) -> T:
    """Wait for what a call returns.

    Args:
        future: of the call.
        timeout: how long to wait, in seconds.
        what: what the call does, for the message of an error.

    Raises:
        WaitTimeoutError: it did not end in time.
        Exception: what the function raised.
    """
    return await future.wait(
        timeout, lambda: WaitTimeoutError(f"{what}: not done within {timeout:g} s")
    )
