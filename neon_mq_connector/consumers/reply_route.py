"""How a request is answered: the queue its body names, or the direct reply-to of its sender.

A requester of this library names both: ``reply_to`` and ``correlation_id`` as AMQP properties, and
in a header the queue that the body's ``routing_key`` names. What a callback publishes to that queue
goes to the requester directly, and nothing is declared. That queue can only be a reply queue of
this library: else a requester could divert what is meant for another service.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pika.spec import NOT_FOUND, BasicProperties

from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import Connections
from neon_mq_connector.envelope import (
    DIRECT_REPLY_TO,
    REPLY_QUEUE,
    REPLY_QUEUE_PREFIX,
    is_direct_reply_name,
    is_reply_name,
)
from neon_mq_connector.errors import ReaderGoneError
from neon_mq_connector.link import EncodedProperties
from neon_mq_connector.publishing.encoded_message import encode_message
from neon_mq_connector.publishing.message import Message, declare_missing
from neon_mq_connector.topology import QueueStatus, Refusal

#: The size that every broker takes; for a larger message one may close the channel.
_LARGEST_ANSWER = 65_536
#: How long an answer may wait in the reply queue, in milliseconds.
EXPIRATION = 1000
#: The same for a part of an answer: a slow reader has many in its queue.
PART_EXPIRATION = 3_600_000
#: How often the broker is asked whether the parts of an answer are read, in seconds.
_ASK_EVERY = 0.5


def direct_queue(properties: BasicProperties) -> str | None:
    """Return the queue that stands for the direct reply-to of a requester.

    None when the requester only knows queues, or has named a queue of its choice.
    """
    headers = properties.headers
    reply_to = properties.reply_to
    if not headers or not reply_to or not is_direct_reply_name(reply_to):
        return None
    queue = headers.get(REPLY_QUEUE)
    # a requester that may declare no queue names direct reply-to itself
    if isinstance(queue, str) and (
        queue in (reply_to, DIRECT_REPLY_TO) or queue.startswith(REPLY_QUEUE_PREFIX)
    ):
        return queue
    return None


class Reply(NamedTuple):
    """How the answer to one request is sent.

    Attributes:
        queue: the reply queue, or the direct reply-to name of the requester.
        wire_format: the format in which the request came.
        correlation_id: what the answer must carry; None for its own message id.
        declares: whether the queue is declared if it is missing, as old requesters expect.
    """

    queue: str
    wire_format: WireFormat
    correlation_id: str | None
    declares: bool

    def message(self, data: Mapping[str, Any], app_id: str, expiration: int, error: str) -> Message:
        """Encode an answer; see `DeliveryChannel.answer`."""
        encoded = encode_message(
            data,
            wire_format=self.wire_format,
            expiration=expiration,
            app_id=app_id,
            correlation_id=self.correlation_id,
            error=error,
        )
        # a requester without its reply queue is gone: nothing is declared for it
        return Message(
            "",
            self.queue,
            encoded.body,
            encoded.properties,
            mandatory=self.declares,
            declare=functools.partial(declare_missing, self.queue) if self.declares else None,
            repeatable=True,
        )


def reply_to(
    properties: BasicProperties,
    direct: str | None,
    routing_key: object,
    wire_format: WireFormat,
) -> Reply | None:
    """Return how a request is answered; None where its sender wants no answer.

    Args:
        properties: of the request.
        direct: its `direct_queue`.
        routing_key: what its body names; clients in other languages name only ``reply_to``.
        wire_format: the format in which it came.
    """
    correlation_id = properties.correlation_id
    if isinstance(routing_key, str) and routing_key:
        if routing_key == direct:
            return Reply(properties.reply_to, wire_format, correlation_id, declares=False)
        declares = not is_reply_name(routing_key)
        return Reply(routing_key, wire_format, correlation_id, declares)
    queue = properties.reply_to
    if not queue:
        return None
    # AMQP peers that send no correlation id expect the message id
    return Reply(queue, wire_format, correlation_id or properties.message_id, declares=False)


def is_harmless(message: Message) -> bool:
    """Whether no broker closes the channel because of a message."""
    properties = message.properties
    if len(message.body) > _LARGEST_ANSWER:
        return False
    if isinstance(properties, EncodedProperties):
        return True  # they have none of the following
    headers = properties.headers
    return (
        properties.user_id is None
        and properties.reply_to != DIRECT_REPLY_TO
        and not (headers and ("CC" in headers or "BCC" in headers))
    )


class Reader:
    """Whether the parts of one answer are still read; used by one thread at a time.

    A requester that has stopped reading has deleted its reply queue; one that has gone has no
    channel for direct reply-to any more. The broker tells of neither by itself: parts cannot be
    mandatory, since those to a live direct reply-to are returned as well. But a passive declare
    tells whether the name exists, and whether the queue has a consumer, which it has not where the
    process of the requester was killed.

    `_is_gone` is set by the control connection's thread.
    """

    __slots__ = ("_connections", "_due", "_is_gone", "_queue")

    def __init__(self, connections: Connections, queue: str) -> None:
        self._connections = connections
        self._queue = queue
        self._due = time.monotonic() + _ASK_EVERY
        self._is_gone = False

    def check(self) -> None:
        """Ask the broker from time to time, without waiting for its answer.

        Raises:
            ReaderGoneError: it has answered that the parts are not read.
        """
        if self._is_gone:
            raise ReaderGoneError(f"the parts of an answer to {self._queue!r} are read no longer")
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _ASK_EVERY
            timeout = self._connections.policy.operation_timeout
            self._connections.control.look_up(self._queue, self, timeout=timeout)

    def resolve(self, status: QueueStatus | None) -> None:
        """Note that the name exists; clients of other kinds may read without a consumer."""
        if status is not None and self._queue.startswith(REPLY_QUEUE_PREFIX):
            self._is_gone = not status.consumers

    def fail(self, error: BaseException) -> None:
        """Note that the name does not exist, if that is the error."""
        self._is_gone = isinstance(error, Refusal) and error.code == NOT_FOUND
