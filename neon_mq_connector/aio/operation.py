"""The awaitables that the operations of a coroutine's channel return; each has begun already."""

from __future__ import annotations

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


class Operation(LoopFuture[Any]):
    """An operation of a channel: it has begun, and is awaited for its result or its error.

    What it raises is what pika would raise.

    Args:
        what: what is done; `str` of it stands in messages.
        loop: where it is awaited.
        timeout: how long an ``await`` may take, in seconds.
        failed: called with it when it fails.
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
            self._failed(self)
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
        loop, timeout, failed: as for `Operation`.
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
