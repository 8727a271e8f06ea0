"""Park messages that cannot be handled, in a durable queue that an operator can see and replay.

A message is parked when the broker has confirmed it there, and only then settled.
"""

from __future__ import annotations

import logging

from pika.exceptions import ChannelClosedByBroker

from neon_mq_connector import tracing
from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.parked_form import FORMS, FailedMessage, parked_properties
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.errors import (
    MQError,
    PublishLostError,
    PublishRejectedError,
    UnroutableError,
)
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.consumers")


class ParkingError(MQError):
    """A message that failed could not be parked; the message says why."""


def park(
    registration: Registration, connections: Connections, failed: FailedMessage, timeout: float
) -> None:
    """Publish a message to the dead-letter queue of its queue and wait until it is there.

    The queue is declared when the message is returned, so one that exists needs no permission to
    declare it.

    Args:
        registration: the queue that the message comes from, and its dead-letter queue.
        connections: how to reach the broker.
        failed: the message.
        timeout: how long to wait at most, in seconds, for each form that is tried.

    Raises:
        ParkingError: the message is not parked, and must not be acknowledged.
    """
    queue, dead_queue = registration.queue.name, registration.dead_queue or ""
    arguments = {"x-max-length": registration.parked_max_length}
    spec = Queue(dead_queue, durable=True, arguments=arguments)
    error: BaseException | None = None
    for form in FORMS:
        message = Message(
            "",
            dead_queue,
            failed.delivery.body,
            parked_properties(failed, queue, form),
            mandatory=True,
            declare=lambda facts: declare_queue(spec, facts),
        )
        try:
            with tracing.parking(dead_queue, failed.delivery.properties):
                connections.publisher.publish(message, timeout=timeout)
        except Exception as refusal:  # also of pika, for what cannot be put on the wire
            error = refusal
            if not _another_form_may_do(refusal):
                break
        else:
            LOG.warning(
                "queue %r: message %s failed (tries: %d) and is parked in %r: %s",
                queue,
                failed,
                failed.attempts,
                dead_queue,
                failed.error,
                extra=log_fields(queue, connections.vhost, failed.delivery.properties.message_id),
            )
            return
    raise ParkingError(
        f"queue {queue!r}: a message that failed cannot be parked in {dead_queue!r}: {error}"
    ) from error


def _another_form_may_do(error: BaseException) -> bool:
    """Whether the message may be taken with fewer and smaller headers."""
    if isinstance(error, UnroutableError):
        return error.__cause__ is None  # the queue was deleted since; else its declare was refused
    if isinstance(error, PublishLostError):
        return isinstance(getattr(error.__cause__, "__cause__", None), ChannelClosedByBroker)
    return isinstance(error, PublishRejectedError) or not isinstance(error, MQError)
