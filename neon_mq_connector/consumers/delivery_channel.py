"""The channel of a delivery: pika's operations, each written once for functions and coroutines.

Settlements go to the channel on which the message came, publishes to the publishing connection, and
what the broker may refuse to the control connection, where a refusal harms nobody else. Refusals
are raised as pika's exceptions.

Two classes derive from `DeliveryChannel`. In callbacks that are functions an operation is waited
for (`callback_channel`), in coroutines it may be awaited (`aio.channel`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

import pika.frame
from pika.spec import Basic, BasicProperties

from neon_mq_connector.codec import WireFormat, decode_body
from neon_mq_connector.consumers.broker_operations import (
    BrokerOperations,
    FrameCallback,
    check_properties,
)
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.consumers.reply_route import (
    EXPIRATION,
    Reader,
    Reply,
    direct_queue,
    is_harmless,
    reply_to,
)
from neon_mq_connector.consumers.session import ReceivedMessage, Session
from neon_mq_connector.consumers.settlement import Outcome
from neon_mq_connector.envelope import PERSISTENT, is_direct_reply_name, is_reply_name
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.publishing.message import Destination, Message, declare_missing
from neon_mq_connector.publishing.publisher import Publisher


class DeliveryChannel(BrokerOperations):
    """Stand in for the pika channel of one delivery; any thread may call its methods.

    It belongs to one session: once that is over, settlements are dropped, since the broker delivers
    again. Publishes and declares go on.

    Attributes:
        message: the message, decoded; None for a channel of no message.
        delivery: the message as its callback gets it.
        direct_queue: the queue that stands for the direct reply-to of the sender, if one does.
        has_answered: whether an answer to the message was sent.
        has_acked: whether the callback has acknowledged a message.
        closes_alone: whether `close` closes this channel, and not the consumer.
        publishes: what was published since the last ack; owned by the session's lock `publishing`.
    """

    _done: Any  # what an operation returns that is done by the call

    # one channel is made for each message: so what it starts with stands in the class
    has_answered = False
    has_acked = False
    closes_alone = False
    _closed = False
    # whether answers leave on the channel of their request; None before the first answer
    _answers_here: bool | None = None
    publishes: PendingPublishes | None = None
    _reader: Reader | None = None  # of an answer in parts
    # the reply queue that the body names, and the body's format; None before it was read
    _request: tuple[object, WireFormat] | None = None

    def __init__(self, session: Session, message: ReceivedMessage | None = None) -> None:
        self._session = session
        self.message = message
        self.delivery = delivery = None if message is None else message.delivery
        self.direct_queue = None if delivery is None else direct_queue(delivery.properties)

    # -- for the classes that derive -----------------------------------------------------------

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call a function of the user on the thread or loop of the callbacks."""
        raise NotImplementedError

    def _publish(self, message: Message) -> Any:
        """Publish a message; an ack that follows waits for its confirm."""
        raise NotImplementedError

    def _report(self, error: BaseException) -> None:
        """Report a publish that failed and that no ack waits for."""
        raise NotImplementedError

    # -- state ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether deliveries of this channel can still be settled."""
        return not self._closed and self._session.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the channel is closed."""
        return not self.is_open

    @property
    def queue(self) -> str:
        """The queue that the consumer consumes."""
        return self._session.queue

    @property
    def channel_number(self) -> int:
        """The number of the session; AMQP's own number is not shown."""
        return self._session.number

    @property
    def consumer_tags(self) -> list[str]:
        """The tag of the consumer, while it consumes."""
        tag = self._session.consumer_tag
        return [tag] if tag and self._session.is_open else []

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> Any:
        """Stop this consumer; other consumers are not disturbed.

        A channel that ``connection.channel()`` has made is closed alone.
        """
        if self.closes_alone:
            self._closed = True
        else:
            self._session.stop_consumer()
        return self._done

    def add_on_close_callback(self, callback: Callable[[Any, Any], object]) -> None:
        """Call a function when the consumer is detached.

        Args:
            callback: called with this channel and the reason, an `MQError` as a rule.
        """
        self._session.connection.add_on_close_callback(
            lambda _connection, reason: self._call(callback, self, reason)
        )

    # -- settling ------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> Any:
        """Acknowledge; what this callback has published is confirmed before the ack leaves."""
        self.has_acked = True
        self._settle(delivery_tag, Outcome.ACK, multiple)
        return self._done

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> Any:
        """Give a message back, or have it dropped or dead-lettered."""
        self._settle(delivery_tag, Outcome.NACK_AND_REQUEUE if requeue else Outcome.NACK, multiple)
        return self._done

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> Any:
        """Fail a message: back to its queue, or dropped or dead-lettered."""
        self._settle(delivery_tag, Outcome.REJECT_AND_REQUEUE if requeue else Outcome.REJECT, False)
        return self._done

    def basic_recover(self, requeue: bool = True, callback: Any = None) -> Any:
        """Give back all messages that were handed to a callback and are not settled."""
        self._settle(0, Outcome.NACK_AND_REQUEUE, True)
        return self._done

    def _settle(self, tag: int, outcome: Outcome, multiple: bool) -> None:
        session = self._session
        settlement = session.settlement
        if not self.publishes and not multiple:
            if not settlement.settle(tag, outcome):
                session.nothing_to_settle(tag)
            return
        claimed = settlement.claim(tag, multiple=multiple)
        publishes = None
        if claimed and outcome is Outcome.ACK:
            with session.publishing:
                publishes, self.publishes = self.publishes, None
        if publishes is not None:
            publishes.ack_when_confirmed(claimed)
            return
        for each in claimed:
            settlement.send(each, outcome)
        if not claimed and not multiple:
            session.nothing_to_settle(tag)

    # -- publishing ----------------------------------------------------------------------------

    def _message(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes,
        properties: BasicProperties | None,
        mandatory: bool,
    ) -> Message:
        if isinstance(body, str):
            body = body.encode("utf-8")
        own = BasicProperties()
        own.__dict__.update(vars(properties or own))  # `copy.copy` takes ten times as long
        check_properties(own)
        if own.delivery_mode is None:
            own.delivery_mode = PERSISTENT
        if exchange:
            return Message(exchange, routing_key, body, own, mandatory=mandatory)
        if self._request is not None and routing_key == self._request[0]:
            self.has_answered = True
        if self.delivery is not None and routing_key == self.direct_queue:
            self.has_answered = True
            request = self.delivery.properties
            own.correlation_id = request.correlation_id
            return Message("", str(request.reply_to), body, own)
        if is_reply_name(routing_key):
            # a live direct one is delivered and returned as well, so it cannot be mandatory
            return Message("", routing_key, body, own)
        declare = partial(declare_missing, routing_key)
        return Message("", routing_key, body, own, mandatory=True, declare=declare)

    def _expect_confirm(self) -> PendingPublishes:
        """Note a publish that is about to be made; return what its confirm is told to."""
        with self._session.publishing:
            publishes = self.publishes
            if publishes is None:
                publishes = self.publishes = PendingPublishes(self._session, self._report)
            publishes.add()
            return publishes

    # -- answering -----------------------------------------------------------------------------

    def _may_answer_here(self, message: Message) -> bool:
        """Whether a message is an answer that may leave on the channel of its request, unconfirmed.

        All answers to one request go the same way, so that they stay in order.
        """
        if message.exchange or not is_direct_reply_name(message.routing_key):
            return False
        session = self._session
        tag = 0 if self.delivery is None else self.delivery.method.delivery_tag
        if self._answers_here is None:
            is_fit = is_harmless(message)
            self._answers_here = is_fit and session.may_answer(tag)
            if is_fit and not session.sends_answers:
                session.note_answer(tag)
        elif not session.settlement.is_open(tag):
            self._answers_here = False  # after the ack: safety before order
        return self._answers_here

    def _publisher(self, message: Message) -> Publisher:
        session = self._session
        if (
            session.acks_on_receipt
            and session.sends_answers
            and not message.exchange
            and is_direct_reply_name(message.routing_key)
        ):
            # it needs its confirm, which comes with the next requests and wakes no other thread
            return session.connections.answer_publisher
        return session.connections.publisher

    def note_request(self, body: object, queue: object, wire_format: WireFormat) -> None:
        """Note which queue the body names, and its format; it is not decoded again for the answer.

        A body that is not that of this message is ignored.
        """
        if self.delivery is not None and self.delivery.body is body:
            self._request = (queue, wire_format)

    def reply(self, queue: str | None = None) -> Reply | None:
        """Return how the request is answered; None when its sender wants no answer.

        None, too, if a queue is given and the answer is expected elsewhere.
        """
        delivery = self.delivery
        if delivery is None:
            return None
        _method, properties, body = delivery
        if self._request is None:
            try:
                data, wire_format = decode_body(body, properties.content_type)
            except DecodeError:
                self._request = (None, WireFormat.JSON)  # which everybody reads
            else:
                self._request = (data.get("routing_key"), wire_format)
        named, wire_format = self._request
        if queue is not None and queue != (named or properties.reply_to):
            return None
        return reply_to(properties, self.direct_queue, named, wire_format)

    def answer(
        self,
        data: Mapping[str, Any],
        reply: Reply,
        *,
        expiration: int = EXPIRATION,
        error: str = "",
    ) -> Any:
        """Publish the answer to the request, or a part; an ack that follows waits for its confirm.

        Args:
            data: the answer.
            reply: how it is sent.
            expiration: how long it may wait in a queue, in milliseconds.
            error: for an error answer: the name of the exception.

        Returns:
            In a coroutine an awaitable of the confirm.

        Raises:
            EncodeError: the data has no representation in the format of the request.
            PublishError: there is no connection to publish on.
            ReaderGoneError: there were parts before, and they are no longer read.
        """
        if self.has_answered:
            if self._reader is None:
                self._reader = Reader(self._session.connections, reply.queue)
            self._reader.check()
        self.has_answered = True
        owner = self._session.connections.owner
        return self._publish(reply.message(data, owner, expiration, error))

    # -- consuming -----------------------------------------------------------------------------

    def basic_cancel(self, consumer_tag: str = "", callback: FrameCallback | None = None) -> Any:
        """Stop this consumer."""
        self._session.stop_consumer()
        if callback is not None:
            callback(pika.frame.Method(1, Basic.CancelOk(consumer_tag)))
        return self._done

    def stop_consuming(self, consumer_tag: str | None = None) -> Any:
        """Stop this consumer."""
        self._session.stop_consumer()
        return self._done

    def basic_consume(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a consumer is registered with the connector, which then watches over it."""
        raise NotImplementedError(
            "a callback's channel does not start consumers; use register_consumer on the connector "
            "(in a callback too) or create_mq_connection() for a connection of your own"
        )


#: The channel of the message that the running callback handles; None elsewhere.
current_channel: ContextVar[DeliveryChannel | None] = ContextVar("current_channel", default=None)


def answer_in_kind(destination: Destination) -> Reply | None:
    """Return how a message is sent that answers the running callback's request; else None."""
    channel = current_channel.get()
    if channel is None or destination.exchange or not destination.queue:
        return None
    reply = channel.reply(destination.queue)
    if reply is not None:
        channel.has_answered = True
    return reply


class MessageFields(logging.Filter):
    """Add ``mq_queue``, ``mq_vhost`` and ``mq_message_id`` to the records that callbacks log.

    It drops none, and is added to a handler, since records of all loggers come there.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(MessageFields())
        >>> logging.basicConfig(level=logging.INFO, handlers=[handler])
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields where a callback is running and the record has none; return True."""
        channel = current_channel.get()
        if channel is not None and channel.message is not None:
            for name, value in channel.message.log_fields.items():
                vars(record).setdefault(name, value)
        return True
