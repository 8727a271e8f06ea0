"""Get dead letters one by one, and give back to their queue those that are not taken."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from types import TracebackType

import pika

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.attempts import DEFAULT_DELIVERY_LIMIT, delivery_count
from neon_mq_connector.consumers.registration import dead_queue_name
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import ChannelEvents, Delivery, LinkChannel
from neon_mq_connector.operations.dead_letter import DeadLetter, copied_properties
from neon_mq_connector.operations.queues import DEAD_SUFFIX, QueueNotFoundError, find_queue
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.topology import QueueStatus

LOG = logging.getLogger("neon_mq_connector.operations")

_OWNER = "neon-mq"
_CLOSE_TIMEOUT = 3.0
#: A quorum queue drops a message that came back too often. From half of its usual limit on, one
#: goes to the end of the queue as a new message instead of coming back.
_RENEW_FROM = DEFAULT_DELIVERY_LIMIT // 2


def find_dead_queue(control: Control, name: str, *, timeout: float) -> QueueStatus | None:
    """Look up the dead-letter queue of a queue, or else the queue of that very name."""
    if not name.endswith(DEAD_SUFFIX):
        status = find_queue(control, dead_queue_name(name), timeout=timeout)
        if status is not None:
            return status
    return find_queue(control, name, timeout=timeout)


class DeadLetterReader:
    """Get the dead letters of one queue; what is not taken is given back. Used by one thread.

    Attributes:
        queue: the dead-letter queue.
        connections: how the broker is reached.
        has_begun: whether a message was got.
    """

    def __init__(
        self, parameters: Sequence[pika.ConnectionParameters], queue: str, timeout: float
    ) -> None:
        self.queue = queue
        self.connections = Connections(parameters, owner=_OWNER)
        self.has_begun = False
        self._timeout = timeout
        self._channel: LinkChannel | None = None

    def __enter__(self) -> DeadLetterReader:
        try:
            self._find()
        except BaseException:
            self.connections.close(_CLOSE_TIMEOUT)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, MQError):  # else there may be no connection
            with contextlib.suppress(MQError):  # the close of the channel does it, too
                self.give_back()
        self.connections.close(_CLOSE_TIMEOUT)

    def deliveries(self) -> Iterator[Delivery]:
        """Get the messages that were there when the first was got."""
        left: int | None = None
        while left != 0:
            got = self._channel_now().get(self.queue, False, timeout=self._timeout)
            if got[0] is None:
                return
            delivery = Delivery(*got)
            self.has_begun = True
            if not self._is_dead_letter(delivery):
                return
            # a passive declare may tell late how many are in a quorum queue
            left = got[0].message_count if left is None else left - 1
            yield delivery

    def take(self, delivery: Delivery) -> None:
        """Take a message out of the queue."""
        self._channel_now().ack(delivery.method.delivery_tag)

    def leave(self, delivery: Delivery) -> None:
        """Leave a message in the queue; it is given back at the end."""
        if delivery_count(delivery) < _RENEW_FROM:
            return
        LOG.info("queue %r: a message was looked at often and is put to its end", self.queue)
        message = Message(
            "", self.queue, delivery.body, copied_properties(delivery.properties), mandatory=True
        )
        self.connections.publisher.publish(message, timeout=self._timeout)
        self.take(delivery)

    def give_back(self) -> None:
        """Give back what was not taken; the broker has everything when this returns."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.nack(0, multiple=True, requeue=True)
            channel.close(timeout=self._timeout)

    def _find(self) -> None:
        status = find_dead_queue(self.connections.control, self.queue, timeout=self._timeout)
        if status is None:
            dead = dead_queue_name(self.queue)
            also = "" if self.queue.endswith(DEAD_SUFFIX) else f", and no {dead!r}"
            raise QueueNotFoundError(
                f"there is no queue {self.queue!r}{also} in virtual host "
                f"{self.connections.vhost!r}; name another queue or virtual host"
            )
        self.queue = status.name

    def _is_dead_letter(self, delivery: Delivery) -> bool:
        """Whether it is one; the messages of a queue in use are left alone."""
        if self.queue.endswith(DEAD_SUFFIX):
            return True
        return DeadLetter.of(delivery).queue is not None

    def _channel_now(self) -> LinkChannel:
        """Return the only channel, even if it is shut: another would get all messages once more."""
        if self._channel is None:
            self._channel = self.connections.consuming.open_channel(
                ChannelEvents(), timeout=self._timeout
            )
        return self._channel
