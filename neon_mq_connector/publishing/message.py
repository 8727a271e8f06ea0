"""A message, where it goes, and what has to be declared there."""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pika.spec import BasicProperties

from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.link import EncodedProperties
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.topology import (
    BrokerFacts,
    Exchange,
    Queue,
    Steps,
    check_name,
    declare_exchange,
    declare_queue,
)

LOG = logging.getLogger("neon_mq_connector.publishing")


class Flush(enum.Enum):
    """When a message is written to the socket."""

    NOW = "now"
    #: Together with what is sent until the I/O thread comes to it.
    SOON = "soon"
    #: When there is enough, or after some milliseconds, or with what is written before.
    HELD = "held"


class Message(NamedTuple):
    """A message to publish.

    Attributes:
        exchange: the exchange; empty for the default one, which routes to the queue of that name.
        routing_key: the routing key, or the name of the queue.
        body: the bytes.
        properties: the AMQP properties.
        mandatory: fail when no queue takes it.
        declare: makes the steps that declare the exchange, and the queue, when one is missing; then
            it is published again.
        declare_first: perform these steps each time, since the broker returns nothing here.
        repeatable: publish it again when the channel ends before its confirm, though it may arrive
            twice then.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties | EncodedProperties
    mandatory: bool = False
    declare: Callable[[BrokerFacts], Steps] | None = None
    declare_first: bool = False
    repeatable: bool = False

    def __str__(self) -> str:
        """Name the message by where it goes."""
        if self.exchange:
            return f"message for exchange {self.exchange!r}, routing key {self.routing_key!r}"
        return f"message for queue {self.routing_key!r}"


def declare_missing(queue: str, facts: BrokerFacts) -> Steps:
    """Declare a queue, since a message to it came back."""
    what = "queue %r is declared for a message to it: nothing consumes it yet"
    LOG.info(what, queue, extra=log_fields(queue))
    return declare_queue(Queue(queue), facts)


@dataclass(frozen=True)
class Destination:
    """Where messages go, and what is declared for them.

    Attributes:
        exchange: the exchange; empty for the default one.
        queue: the queue, whose name is the routing key.
        exchange_type: the type the exchange is declared with.
    """

    exchange: str = ""
    queue: str = ""
    exchange_type: str = "direct"

    def __post_init__(self) -> None:
        if not self.exchange and not self.queue:
            raise ValueError("a message needs a queue or an exchange to go to; both are empty")
        check_name("queue", self.queue)
        check_name("exchange", self.exchange)

    def __str__(self) -> str:
        """Return the name of the queue or exchange, quoted, for messages."""
        return repr(self.queue or self.exchange)

    @functools.cached_property
    def mandatory(self) -> bool:
        """Whether a message that no queue takes is an error."""
        if self.exchange:
            return bool(self.queue) and self.exchange_type != "fanout"
        # a message for a live direct reply-to is both delivered and returned; where a reply queue
        # is missing, the requester is gone
        return not is_reply_name(self.queue)

    def message(self, encoded: EncodedMessage) -> Message:
        """Make the message that a publisher takes."""
        mandatory, exchange = self.mandatory, self.exchange
        return Message(
            exchange,
            self.queue,
            encoded.body,
            encoded.properties,
            mandatory,
            self.declare if mandatory or exchange else None,
            bool(exchange and self.queue) and not mandatory,
        )

    def declare(self, facts: BrokerFacts) -> Steps:
        """Declare the exchange if there is one; declare the queue if there is one, and bind it."""
        if not self.exchange:
            return (yield from declare_missing(self.queue, facts))
        status = yield from self.declare_exchange()
        if self.queue:
            status = yield from declare_queue(Queue(self.queue), facts)
            yield Queue(self.queue).bind(self.exchange, self.queue)
        return status

    def declare_exchange(self) -> Steps:
        """Declare the exchange."""
        return declare_exchange(Exchange(self.exchange, self.exchange_type))
