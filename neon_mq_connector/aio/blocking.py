"""Calls that wait for the broker, made on threads of our own and awaited.

An asyncio loop must not be held up by them, and its own executor is for its owner's work.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.errors import StoppedError, WaitTimeoutError

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")

_PAUSE = 0.01


class _Job(Generic[T]):
    """A call to be made, and who awaits it."""

    __slots__ = ("function", "future", "in_any_case", "undo")

    def __init__(
        self,
        function: Callable[[], T],
        future: asyncio.Future[T],
        undo: Callable[[T], object] | None = None,
        in_any_case: bool = False,
    ) -> None:
        self.function = function
        self.future = future
        self.undo = undo
        self.in_any_case = in_any_case


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
        self._jobs: deque[_Job[Any]] = deque()
        self._threads: set[threading.Thread] = set()
        self._shared: dict[Hashable, asyncio.Future[object]] = {}  # the loop's

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
        future: asyncio.Future[T] = self._loop.loop.create_future()
        self._add(_Job(function, future, undo, in_any_case))
        timer = self._loop.loop.call_later(max(0.0, timeout), _expire, future, what, timeout)
        try:
            return await future
        except asyncio.CancelledError:
            if undo is not None and _has_result(future):  # cancelled when it was there already
                self._undo_soon(undo, future.result())
            raise
        finally:
            timer.cancel()

    async def share(
        self, key: Hashable, function: Callable[[], object], *, timeout: float, what: str
    ) -> None:
        """Await a call that is made once for all who ask for it meanwhile.

        Nobody who gives up ends it for the others; so its own time-out must not be that of one.

        Args:
            key: by which those who ask know that they mean the same.
            function: what to call, if it is not being called.
            timeout: how long to wait, in seconds.
            what: what it does, for the message of an error.

        Raises:
            WaitTimeoutError: it did not end in time.
            Exception: what the function raised.
        """
        future = self._shared.get(key)
        if future is None or future.done():
            future = self._shared[key] = self._loop.loop.create_future()
            self._add(_Job(function, future))
            future.add_done_callback(partial(self._end_shared, key))
        await asyncio.wait((future,), timeout=timeout)
        if not future.done():
            raise WaitTimeoutError(f"{what}: not done within {timeout:g} s")
        future.result()

    def _end_shared(self, key: Hashable, future: asyncio.Future[object]) -> None:
        if self._shared.get(key) is future:
            del self._shared[key]
        if not future.cancelled():
            future.exception()  # seen, even if nobody awaits it any more

    async def wait_until_done(self, timeout: float) -> bool:
        """Wait until there is no thread any more.

        Args:
            timeout: how long, in seconds.

        Returns:
            Whether there is none; those that are left are named in the log.
        """
        deadline = time.monotonic() + timeout
        while left := [thread for thread in tuple(self._threads) if thread.is_alive()]:
            if time.monotonic() >= deadline:
                LOG.warning("%s: %d calls have not ended in time", self._name, len(left))
                return False
            await asyncio.sleep(_PAUSE)
        return True

    def _add(self, job: _Job[Any]) -> None:
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

    def _work(self, first: _Job[Any]) -> None:
        job = first
        while True:
            self._make(job)
            with self._lock:
                if not self._jobs:
                    self._threads.discard(threading.current_thread())
                    return
                job = self._jobs.popleft()

    def _make(self, job: _Job[Any]) -> None:
        if job.future.done() and not job.in_any_case:
            return  # nobody waits for it any more
        result: Any = None
        error: BaseException | None = None
        try:
            result = job.function()
        except BaseException as raised:
            error = raised
        try:
            self._loop.call(self._end, job, result, error)
        except StoppedError:
            if error is None and job.undo is not None:
                self._undo(job.undo, result)

    def _end(self, job: _Job[Any], result: Any, error: BaseException | None) -> None:
        """Tell the result; called on the loop."""
        future = job.future
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        elif error is not None:
            LOG.debug("%s: a call failed that nobody awaits any more: %s", self._name, error)
        elif job.undo is not None:
            self._undo_soon(job.undo, result)

    def _undo_soon(self, undo: Callable[[Any], object], result: Any) -> None:
        """Have what nobody waits for undone on a thread; called on the loop."""
        undone = self._loop.loop.create_future()
        self._add(_Job(lambda: self._undo(undo, result), undone))

    def _undo(self, undo: Callable[[Any], object], result: Any) -> None:
        try:
            undo(result)
        except Exception:
            LOG.exception("%s: what nobody waits for could not be undone", self._name)


def _has_result(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _expire(future: asyncio.Future[Any], what: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(WaitTimeoutError(f"{what}: not done within {timeout:g} s"))
