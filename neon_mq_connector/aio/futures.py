"""What coroutines await of other threads: results, events, and operations of a channel.

All of it reaches the loop by `CoroutineLoop.call`, which wakes it once for many.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import Empty
from typing import Any, Generic, TypeVar, cast

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.consumers.broker_operations import as_pika_raises
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.publishing.publisher import Publisher

LOG = logging.getLogger("neon_mq_connector.aio")

T = TypeVar("T")


class LoopFuture(Generic[T]):
    """A result or an error that any thread sets, and that coroutines of one loop wait for.

    The first outcome counts: `dict.setdefault` is one step. The loop appends to `_waiters` and
    looks afterwards whether the outcome is there. Only an outcome that is waited for wakes the
    loop.
    """

    __slots__ = ("_loop", "_outcome", "_waiters")

    def __init__(self, loop: CoroutineLoop) -> None:
        self._loop = loop
        self._outcome: dict[None, tuple[T | None, BaseException | None]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def error(self) -> BaseException | None:
        """The error; None where there is none."""
        return self._outcome[None][1] if self._outcome else None

    # -- any thread ----------------------------------------------------------------------------

    def resolve(self, value: T) -> object:
        """Set the result, unless there is an outcome."""
        return self._set(value, None)

    def fail(self, error: BaseException) -> object:
        """Set the error, unless there is an outcome."""
        return self._set(None, error)

    def _set(self, value: T | None, error: BaseException | None) -> bool:
        """Set the outcome; return whether it was the first."""
        outcome = (value, error)
        if self._outcome.setdefault(None, outcome) is not outcome:
            return False
        if self._waiters:
            with suppress(StoppedError):  # the coroutine has ended with its loop
                self._loop.call(self._wake)
        return True

    # -- the loop ------------------------------------------------------------------------------

    async def wait(self, timeout: float, late: Callable[[], BaseException]) -> T:
        """Wait for the outcome; return the result, or raise the error or that for being late."""
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

    def _wake(self) -> None:
        while self._waiters:
            _set(self._waiters.pop())


class LoopMailbox(Generic[T]):
    """A first-in, first-out queue from any threads to one coroutine at a time.

    The loop owns what is in it.
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
        """Remove and return the oldest item; see `Inbox.get`."""
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


class Done:
    """The awaitable of an operation that the call has finished; it does not suspend."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        """Return at once."""
        yield from ()


DONE = Done()


class Operation(LoopFuture[Any]):
    """An operation of a channel: it has begun, and is awaited for its result or its error.

    What it raises is what pika would raise.

    Args:
        what: what is done; `str` of it stands in messages.
        loop: where it is awaited.
        timeout: how long an ``await`` may take, in seconds.
        failed: called with it when it fails, by any thread.
        callback: called on the loop with the result.
    """

    __slots__ = ("_callback", "_failed", "_timeout", "_was_awaited", "what")

    def __init__(
        self,
        what: object,
        loop: CoroutineLoop,
        timeout: float,
        failed: Callable[[Operation], object],
        callback: Callable[[Any], object] | None = None,
    ) -> None:
        super().__init__(loop)
        self.what = what
        self._timeout = timeout
        self._failed = failed
        self._callback = callback
        self._was_awaited = False

    @property
    def is_known(self) -> bool:
        """Whether its failure is known to the callback."""
        return self._was_awaited

    def _set(self, value: Any, error: BaseException | None) -> bool:
        first = super()._set(value, error)
        if first and error is not None:
            self._failed(self)
        elif first and self._callback is not None:
            with suppress(StoppedError):  # gone with its loop
                self._loop.call(self._callback, value)
        return first

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; return the result or raise the error."""
        return self.wait(self._timeout, self._late).__await__()

    def _as_raised(self, error: BaseException) -> BaseException:
        self._was_awaited = True
        return as_pika_raises(error)

    def _late(self) -> BaseException:
        late = WaitTimeoutError(f"{self.what}: no answer within {self._timeout:g} s")
        return as_pika_raises(late)


class PublishOperation(Operation):
    """The publishing of a message; its result is None when the broker has confirmed it.

    The other publishes of its callback get the outcome too.
    """

    __slots__ = ("_publisher", "_publishes")

    what: Message

    def __init__(
        self,
        message: Message,
        loop: CoroutineLoop,
        timeout: float,
        failed: Callable[[Operation], object],
        publishes: PendingPublishes,
        publisher: Publisher,
    ) -> None:
        super().__init__(message, loop, timeout, failed)
        self._publishes = publishes
        self._publisher = publisher

    @property
    def is_known(self) -> bool:
        """Whether its failure was awaited, or fails the message whose ack depends on it."""
        return self._was_awaited or self._publishes.has_ack

    def _set(self, _value: Any, error: BaseException | None) -> bool:
        if error is None:
            self._publishes.resolve(None)
        else:
            self._publishes.fail(error)
        return super()._set(None, error)

    def _as_raised(self, error: BaseException) -> BaseException:
        self._publishes.forgive(error)  # a callback that catches it has decided
        return super()._as_raised(error)

    def _late(self) -> BaseException:
        return self._publisher.unconfirmed_in_time(self.what, self._timeout)
