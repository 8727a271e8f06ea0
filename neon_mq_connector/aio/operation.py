"""What a coroutine's channel returns: an operation that has begun, and that may be awaited."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.consumers.broker_operations import as_pika_raises
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.publishing.publisher import Publisher


class Done:
    """The awaitable of what is done by the call; awaiting it costs no turn of the loop."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        """Return at once."""
        yield from ()


#: The one that is needed.
DONE = Done()


class Unawaited:
    """The operations of one callback that failed before they were awaited.

    When the callback is over, what is still unknown to it is told. Any thread adds; the thread that
    takes one out tells of it.

    Args:
        tell: called with an operation that has failed, and that was not awaited.
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
            self.end()

    def end(self) -> None:
        """Take note that the callback is over."""
        self._is_over = True
        while True:
            try:
                operation = self._failed.popleft()
            except IndexError:
                return
            if not operation.is_known:
                self._tell(operation)


class Operation(LoopFuture[Any]):
    """An operation of a channel: it has begun, and is awaited for its result or its error.

    What it raises is what pika would raise.

    Args:
        what: what is done, for messages; its text is made when it is needed.
        loop: where it is awaited.
        timeout: how long one may wait for it, in seconds.
        unawaited: takes it when it fails.
        callback: called on the loop with the result.
    """

    __slots__ = ("_callback", "_timeout", "_unawaited", "_was_awaited", "what")

    def __init__(
        self,
        what: object,
        loop: CoroutineLoop,
        timeout: float,
        unawaited: Unawaited,
        callback: Callable[[Any], object] | None = None,
    ) -> None:
        super().__init__(loop)
        self.what = what
        self._timeout = timeout
        self._unawaited = unawaited
        self._callback = callback
        self._was_awaited = False

    @property
    def is_known(self) -> bool:
        """Whether its failure is known to the callback."""
        return self._was_awaited

    def resolve(self, value: Any) -> bool:
        """Set the result."""
        first = super().resolve(value)
        if first and self._callback is not None:
            with suppress(StoppedError):  # gone with its loop
                self._loop.call(self._callback, value)
        return first

    def fail(self, error: BaseException) -> bool:
        """Set the error."""
        first = super().fail(error)
        if first:
            self._unawaited.add(self)
        return first

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; return the result or raise the error."""
        return self.wait(self._timeout, self._late).__await__()

    def _as_raised(self, error: BaseException) -> BaseException:
        self._was_awaited = True
        return as_pika_raises(error)

    def _late(self) -> BaseException:
        """Return the error for a wait that takes too long."""
        late = WaitTimeoutError(f"{self.what}: no answer within {self._timeout:g} s")
        return as_pika_raises(late)


class PublishOperation(Operation):
    """A message on its way.

    Args:
        message: the message, which is what is done; the next three are those of `Operation`.
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
        """Whether its failure is known to the coroutine that awaited it, or to the message."""
        return self._was_awaited or self._publishes.has_ack

    def resolve(self, value: Any) -> bool:
        """Take the confirm."""
        self._publishes.resolve(None)
        return super().resolve(None)

    def fail(self, error: BaseException) -> bool:
        """Take the failure."""
        self._publishes.fail(error)
        return super().fail(error)

    def _as_raised(self, error: BaseException) -> BaseException:
        self._publishes.forgive(error)  # a callback that catches it has decided
        return super()._as_raised(error)

    def _late(self) -> BaseException:
        return self._publisher.unconfirmed_in_time(self.what, self._timeout)
