"""Calls that wait for the broker, made on threads of our own and awaited.

They must not block an asyncio loop, and its own executor is for its owner's work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.threads.on_demand import OnDemandThread

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")

_PAUSE = 0.01


class BlockingCalls:
    """Make calls that block, for the coroutines of one loop.

    There are as many threads as calls, up to ``size``; each ends when no call is left. They keep no
    process alive, as those of a `ThreadPoolExecutor` would.

    Attributes:
        threads: what makes the calls.
    """

    def __init__(self, name: str, size: int = 8) -> None:
        self.threads = [OnDemandThread(name) for _ in range(size)]
        self._jobs: deque[Callable[[], object]] = deque()

    async def run(
        self,
        function: Callable[[], T],
        *,
        timeout: float,
        what: str,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Make a call and await its result.

        When the wait is cancelled or takes too long, a call that has not begun is not made. One
        that has begun goes on; its result is given to ``undo``, on such a thread.

        Raises:
            WaitTimeoutError: it did not end in so many seconds; the error says what it was.
            Exception: what the function raised.
        """
        call: Future[T] = Future()
        self._add(partial(_make, function, call))
        try:
            return await wait_for(call, timeout, what)
        except BaseException:
            call.cancel()
            if undo is not None:
                call.add_done_callback(partial(self._undo, undo))
            raise

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Make a call, waited for or not, and return what coroutines may `wait_for`."""
        call: Future[T] = Future()
        call.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        self._add(partial(_make, function, call))
        return call

    def _add(self, job: Callable[[], object]) -> None:
        self._jobs.append(job)
        # where all are busy, the first that is free makes it
        idle = (thread for thread in self.threads if not thread.is_busy)
        next(idle, self.threads[0]).call(self._work)

    def _undo(self, undo: Callable[[T], object], call: Future[T]) -> None:
        if not call.cancelled() and call.exception() is None:
            self._add(partial(undo, call.result()))

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return  # another thread has made it
            job()


def _make(function: Callable[[], T], call: Future[T]) -> None:
    if not call.running() and not call.set_running_or_notify_cancel():
        return  # it is no longer waited for
    try:
        call.set_result(function())
    except BaseException as error:  # it belongs to the coroutine
        call.set_exception(error)


async def wait_for(call: Future[T], timeout: float, what: str) -> T:
    """Wait for the result of a call; raise `WaitTimeoutError`, which names it, after a time."""
    waiting = asyncio.wrap_future(call)
    try:
        await asyncio.wait((waiting,), timeout=timeout)
        if waiting.done():
            return waiting.result()
        raise WaitTimeoutError(f"{what}: not done within {timeout:g} s")
    finally:
        if not waiting.cancel():
            waiting.exception()  # asyncio logs an error that nothing has asked for


async def wait_until_done(threads: Collection[OnDemandThread], timeout: float) -> bool:
    """Wait for at most so many seconds until no such thread is left; return whether none is."""
    deadline = time.monotonic() + timeout
    while busy := [thread for thread in threads if thread.is_busy]:
        if not time_left(deadline):
            LOG.warning("%s: %d calls have not ended in time", busy[0].name, len(busy))
            return False
        await asyncio.sleep(_PAUSE)
    return all(thread.wait_until_done(_PAUSE) for thread in threads)
