"""Where messages go that cannot be handled: a durable queue that an operator can see and replay.

The name is the queue's with ``.dead`` behind it. A message is parked when the broker has confirmed
it there, and only then settled.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.envelope import (
    PARKED_AT,
    PARKED_ATTEMPTS,
    PARKED_ERROR,
    PARKED_EXCHANGE,
    PARKED_QUEUE,
    PARKED_ROUTING_KEY,
    PARKED_TRACEBACK,
    parked_properties,
)
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.consumers")

_LONGEST_TRACEBACK = 8_000


class ParkingError(MQError):
    """A message that failed could not be parked; the message says why."""


class Parking:
    """Park the failed messages of one queue; called on its consumer's threads.

    Args:
        queue: the queue the messages come from.
        dead_queue: where they go.
        max_length: how many messages that queue holds before the oldest is dropped.
    """

    def __init__(self, queue: str, dead_queue: str, max_length: int = 10_000) -> None:
        self.queue = queue
        self.dead_queue = dead_queue
        self._max_length = max_length

    def park(
        self, connections: Connections, delivery: Delivery, error: BaseException, attempts: int
    ) -> None:
        """Publish a message to the dead-letter queue and wait until it is there.

        Args:
            connections: how to reach the broker.
            delivery: the message.
            error: what its callback raised.
            attempts: how often it was tried.

        Raises:
            ParkingError: the message is not parked, and must not be acknowledged.
        """
        method, properties, body = delivery
        headers: dict[str, Any] = {
            PARKED_ERROR: _encodable(_describe(error))[:1_000],
            PARKED_TRACEBACK: _encodable(_trace(error))[-_LONGEST_TRACEBACK:],
            PARKED_AT: int(time.time()),
            PARKED_QUEUE: self.queue,
            PARKED_EXCHANGE: method.exchange,
            PARKED_ROUTING_KEY: method.routing_key,
            PARKED_ATTEMPTS: attempts,
        }
        message = Message(
            "", self.dead_queue, body, parked_properties(properties, headers), mandatory=True
        )
        try:
            self._declare(connections)
            connections.publisher.publish(message, timeout=connections.policy.operation_timeout)
        except Exception as failure:  # also what cannot be put on the wire
            raise ParkingError(
                f"queue {self.queue!r}: a message that failed cannot be parked in "
                f"{self.dead_queue!r}: {failure}"
            ) from failure
        LOG.warning(
            "queue %r: message %s failed (tries: %d) and is parked in %r: %s",
            self.queue,
            properties.message_id or method.delivery_tag,
            attempts,
            self.dead_queue,
            headers[PARKED_ERROR],
        )

    def _declare(self, connections: Connections) -> None:
        spec = Queue(self.dead_queue, durable=True, arguments={"x-max-length": self._max_length})
        try:
            connections.control.perform(
                f"declaring queue {self.dead_queue!r}",
                lambda facts: declare_queue(spec, facts),
                timeout=connections.policy.operation_timeout,
            )
        except MQError as error:
            # it may be there all the same, made by somebody with more rights: the publish tells
            LOG.debug("queue %r may not be declared: %s", self.dead_queue, error)


def _encodable(text: str) -> str:
    """Write out what is no Unicode: a name of a file may have it, or a string in JSON."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an exception whose text cannot be made must not lose the message
        return type(error).__name__


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__))
