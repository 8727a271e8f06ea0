"""What a coroutine's channel returns: an operation that has begun, and that may be awaited."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.consumers.pika_errors import as_pika_raises
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.publishing.publisher import Publisher

if TYPE_CHECKING:
    import asyncio


class Done:
    """The awaitable of what is done when it is called; awaiting it costs no turn of the loop."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        """Return at once."""
        yield from ()


#: The one that is needed.
DONE = Done()


class Unawaited:
    """The operations of one callback that failed before anybody awaited them.

    When the callback is over, what is still unknown to it is told. Any thread adds; the thread that
    takes one out tells of it.

    Args:
        tell: called with an operation that has failed, and that nobody knows of.
    """

    __slots__ = ("_failed", "_is_over", "_tell")

    def __init__(self, tell: Callable[[Operation], object]) -> None:
        self._tell = tell
        self._failed: deque[Operation] = deque()
        self._is_over = False

    def add(self, operation: Operation) -> None:
        """Take an operation that has failed."""
        self._failed.append(operation)
        if self._is_over:
            self._tell_all()

    def end(self) -> None:
        """Take note that the callback is over."""
        self._is_over = True
        self._tell_all()

    def _tell_all(self) -> None:
        while True:
            try:
                operation = self._failed.popleft()
            except IndexError:
                return
            if not operation.is_known:
                self._tell(operation)


class Operation:
    """An operation of a channel: it has begun, and is awaited for its result or its error.

    What it raises is what pika would raise. Any thread may answer it; the first answer counts, and
    is that of the thread that pops from `_unanswered`. The loop appends to `_waiters`, and looks
    afterwards whether the answer has come.

    Args:
        what: what is done, for messages; its text is made when it is needed.
        loop: where it is awaited.
        timeout: how long one may wait for it, in seconds.
        unawaited: takes it when it fails.
        callback: called on the loop with the result.

    Attributes:
        error: why it has failed.
    """

    __slots__ = (
        "_callback",
        "_is_over",
        "_loop",
        "_timeout",
        "_unanswered",
        "_unawaited",
        "_value",
        "_waiters",
        "_was_awaited",
        "error",
        "what",
    )

    def __init__(
        self,
        what: object,
        loop: CoroutineLoop,
        timeout: float,
        unawaited: Unawaited,
        callback: Callable[[Any], object] | None = None,
    ) -> None:
        self.what = what
        self.error: BaseException | None = None
        self._was_awaited = False
        self._loop = loop
        self._timeout = timeout
        self._unawaited = unawaited
        self._callback = callback
        self._value: Any = None
        self._is_over = False
        self._waiters: list[asyncio.Future[None]] = []
        self._unanswered = [None]

    @property
    def is_known(self) -> bool:
        """Whether somebody knows that it has failed."""
        return self._was_awaited

    # -- any thread ----------------------------------------------------------------------------

    def resolve(self, value: Any) -> None:
        """Take the result."""
        if self._is_first():
            self._value = value
            self._is_over = True
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Take the failure."""
        if self._is_first():
            self.error = error
            self._is_over = True
            self._wake()
            self._unawaited.add(self)

    def _is_first(self) -> bool:
        try:
            self._unanswered.pop()
        except IndexError:
            return False
        return True

    def _wake(self) -> None:
        with suppress(StoppedError):  # what awaits it is gone with its loop
            if self._callback is not None and self.error is None:
                self._loop.call(self._callback, self._value)
            if self._waiters:
                self._loop.call(self._wake_all)

    def _as_raised(self, error: BaseException) -> BaseException:
        """Return what is raised for an error, where it is awaited."""
        return as_pika_raises(error)

    def _late(self) -> BaseException:
        """Make the error for one who has waited long enough."""
        late = WaitTimeoutError(f"{self.what}: no answer within {self._timeout:g} s")
        return as_pika_raises(late)

    # -- the loop ------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; give the result or raise the error."""
        if not self._is_over:
            loop = self._loop.loop
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            if not self._is_over:
                timer = loop.call_later(self._timeout, self._expire, waiter)
                try:
                    yield from waiter
                finally:
                    timer.cancel()
        self._was_awaited = True
        if self.error is not None:
            raise self._as_raised(self.error)
        return self._value

    def _wake_all(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(None)

    def _expire(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(self._late())


class PublishOperation(Operation):
    """A message on its way.

    Args:
        message: the message.
        loop: where its confirm is awaited.
        timeout: how long one may wait for it, in seconds.
        unawaited: takes it when it fails.
        publishes: those of its callback; they are told its end.
        publisher: makes the error for a confirm that is late.
    """

    __slots__ = ("_publisher", "_publishes")

    what: Message

    def __init__(
        self,
        message: Message,
        loop: CoroutineLoop,
        timeout: float,
        unawaited: Unawaited,
        publishes: PendingPublishes,
        publisher: Publisher,
    ) -> None:
        super().__init__(message, loop, timeout, unawaited)
        self._publishes = publishes
        self._publisher = publisher

    @property
    def is_known(self) -> bool:
        """Whether the coroutine that awaited it, or the message, knows that it has failed."""
        return self._was_awaited or self._publishes.has_ack

    def resolve(self, value: Any) -> None:
        """Take the confirm."""
        self._publishes.resolve(None)
        super().resolve(None)

    def fail(self, error: BaseException) -> None:
        """Take the failure."""
        self._publishes.fail(error)
        super().fail(error)

    def _as_raised(self, error: BaseException) -> BaseException:
        self._publishes.forgive(error)  # a callback that catches it has decided
        return super()._as_raised(error)

    def _late(self) -> BaseException:
        return self._publisher.unconfirmed_in_time(self.what, self._timeout)
