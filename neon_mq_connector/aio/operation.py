"""What the operations of a coroutine's channel return: they have begun, and may be awaited."""

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
    """The awaitable of an operation that the call has finished; it does not suspend."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        """Return at once."""
        yield from ()


DONE = Done()


class UnawaitedFailures:
    """The failed operations of one callback, which are reported if it has not awaited them.

    Any thread adds an operation. Each is removed by one thread, which reports it.

    Args:
        report: called with an operation that has failed, and that was not awaited.
    """

    __slots__ = ("_failed", "_is_over", "_report")

    def __init__(self, report: Callable[[Operation], object]) -> None:
        self._report = report
        self._failed: deque[Operation] = deque()
        self._is_over = False

    def add(self, operation: Operation) -> None:
        """Add an operation that has failed."""
        self._failed.append(operation)
        if self._is_over:
            self.end()

    def end(self) -> None:
        """Report the failures when the callback has ended, and later ones as they come."""
        self._is_over = True
        while True:
            try:
                operation = self._failed.popleft()
            except IndexError:
                return
            if not operation.is_known:
                self._report(operation)


class Operation(LoopFuture[Any]):
    """An operation of a channel: it has begun, and is awaited for its result or its error.

    What it raises is what pika would raise.

    Args:
        what: what is done; `str` of it stands in messages.
        loop: where it is awaited.
        timeout: how long an ``await`` may take, in seconds.
        unawaited: gets it when it fails.
        callback: called on the loop with the result.
    """

    __slots__ = ("_callback", "_timeout", "_unawaited", "_was_awaited", "what")

    def __init__(
        self,
        what: object,
        loop: CoroutineLoop,
        timeout: float,
        unawaited: UnawaitedFailures,
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
        late = WaitTimeoutError(f"{self.what}: no answer within {self._timeout:g} s")
        return as_pika_raises(late)


class PublishOperation(Operation):
    """The publishing of a message; its result is None when the broker has confirmed it.

    Args:
        message: the message.
        loop, timeout, unawaited: as for `Operation`.
        publishes: those of its callback; they get the outcome too.
        publisher: makes the error for a confirm that is late.
    """

    __slots__ = ("_publisher", "_publishes")

    what: Message

    def __init__(
        self,
        message: Message,
        loop: CoroutineLoop,
        timeout: float,
        unawaited: UnawaitedFailures,
        publishes: PendingPublishes,
        publisher: Publisher,
    ) -> None:
        super().__init__(message, loop, timeout, unawaited)
        self._publishes = publishes
        self._publisher = publisher

    @property
    def is_known(self) -> bool:
        """Whether its failure was awaited, or fails the message whose ack depends on it."""
        return self._was_awaited or self._publishes.has_ack

    def resolve(self, value: Any) -> bool:
        """Set the confirm."""
        self._publishes.resolve(None)
        return super().resolve(None)

    def fail(self, error: BaseException) -> bool:
        """Set the error."""
        self._publishes.fail(error)
        return super().fail(error)

    def _as_raised(self, error: BaseException) -> BaseException:
        self._publishes.forgive(error)  # a callback that catches it has decided
        return super()._as_raised(error)

    def _late(self) -> BaseException:
        return self._publisher.unconfirmed_in_time(self.what, self._timeout)
