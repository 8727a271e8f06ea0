"""The operations of a coroutine's channel: what each raises, and who knows of its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika.exceptions as pika_errors

from neon_mq_connector.aio.operation import Operation, Unawaited
from neon_mq_connector.consumers.delivery_channel import as_pika_raises
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.errors import PublishRejectedError, UnroutableError
from neon_mq_connector.publishing.publisher import Message, Publisher

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop


class BrokerOperation(Operation):
    """What the broker may refuse: it raises as pika does."""

    __slots__ = ()

    def _as_raised(self, error: BaseException) -> BaseException:
        return as_pika_raises(error)

    def _late(self) -> BaseException:
        return as_pika_raises(super()._late())


class PublishOperation(Operation):
    """A message on its way."""

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
        """Whether somebody knows that it has failed: whoever awaited it, or the message."""
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
        if isinstance(error, UnroutableError):
            raised: BaseException = pika_errors.UnroutableError([])
        elif isinstance(error, PublishRejectedError):
            raised = pika_errors.NackError([])
        else:
            return error
        raised.__cause__ = error
        return raised

    def _late(self) -> BaseException:
        return self._publisher.unconfirmed_in_time(self.what, self._timeout)
