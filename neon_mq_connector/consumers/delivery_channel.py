"""The channel of a delivery: pika's operations, each written once for functions and coroutines.

Each kind of operation goes where it belongs: settlements to where the message came, publishes to
the publishing connection, and whatever the broker may refuse to the control connection, where a
refusal harms nobody else. Refusals are raised as pika's exceptions, as callbacks written for pika
expect.

Two classes derive from `DeliveryChannel`: in callbacks that are functions an operation is waited
for (`callback_channel`), in coroutines it may be awaited (`aio.channel`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import pika.frame
from pika.spec import Basic, BasicProperties

from neon_mq_connector.codec import WireFormat, decode_body
from neon_mq_connector.consumers.broker_operations import AnswerT, BrokerOperations, FrameCallback
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.consumers.pika_errors import check_properties
from neon_mq_connector.consumers.reader import Reader
from neon_mq_connector.consumers.reply_route import (
    EXPIRATION,
    Reply,
    is_harmless,
    make_answer,
    reply_to,
)
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.consumers.settlement import Outcome
from neon_mq_connector.envelope import PERSISTENT, is_direct_reply_name, is_reply_name
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.message import Destination, Message

#: What an operation returns that is done by the call.
DoneT = TypeVar("DoneT")


class DeliveryChannel(BrokerOperations[AnswerT], Generic[AnswerT, DoneT]):
    """Stand in for the pika channel of one delivery; any thread may call its methods.

    It belongs to one generation of the consuming channel: once that is shut, settlements are
    dropped (the broker delivers again), publishes and declares go on.

    One is made for each message. So there is no constructor here that another would have to call:
    a class that derives sets the attributes, and those of `__slots__` that it uses.

    Attributes:
        delivery: the message; None where the channel belongs to none.
        message: the same, from its arrival on; set by what calls the callback.
        has_answered: whether something was sent to where the request is answered.
        route: how it may be answered directly, if it may.
        has_acked: whether its callback has acknowledged a message.
    """

    __slots__ = (
        "_answers_here",
        "_closed",
        "_publishes",
        "_reader",
        "_request",
        "delivery",
        "has_acked",
        "has_answered",
        "message",
    )

    #: Whether `close` closes this channel, and not the consumer.
    _closes_alone: ClassVar[bool] = False

    # whether answers leave where their request came; None as long as there was none
    _answers_here: bool | None
    _closed: bool
    _publishes: PendingPublishes | None  # owned by the session's lock `publishing`
    _reader: Reader | None  # of the answer; None as long as there was none
    # what the message names for its answer, and its format; None as long as it was not read
    _request: tuple[object, WireFormat] | None
    _done: DoneT
    delivery: Delivery | None
    has_acked: bool
    message: ReceivedMessage | None
    has_answered: bool

    # -- for the classes that derive -----------------------------------------------------------

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Make a call of the user's, where such calls are made."""
        raise NotImplementedError

    def _publish(self, message: Message) -> Any:
        """Publish a message, whose confirm an ack waits for."""
        raise NotImplementedError

    def _report(self, error: BaseException) -> None:
        """Tell of a publish that failed and that no ack waits for."""
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
        """The number of the generation; AMQP's own number is the library's business."""
        return self._session.number

    @property
    def consumer_tags(self) -> list[str]:
        """The tag of the consumer, while it consumes."""
        tag = self._session.consumer_tag
        return [tag] if tag and self._session.is_open else []

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> DoneT:
        """Stop this consumer; other consumers are not disturbed.

        A channel that ``connection.channel()`` has made is closed alone.
        """
        if self._closes_alone:
            self._closed = True
        else:
            self._session.stop_consumer()
        return self._done

    def add_on_close_callback(self, callback: Callable[[Any, Any], object]) -> None:
        """Have something called when the consumer is detached.

        Args:
            callback: called with this channel and the reason, an `MQError` as a rule.
        """
        self._session.connection.add_on_close_callback(
            lambda _connection, reason: self._call(callback, self, reason)
        )

    # -- settling ------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> DoneT:
        """Acknowledge; what this callback has published is confirmed before the ack leaves."""
        self.has_acked = True
        self._settle(delivery_tag, Outcome.ACK, multiple)
        return self._done

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> DoneT:
        """Give a message back, or have it dropped or dead-lettered."""
        self._settle(delivery_tag, Outcome.NACK_AND_REQUEUE if requeue else Outcome.NACK, multiple)
        return self._done

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> DoneT:
        """Fail a message: back to its queue, or dropped or dead-lettered."""
        self._settle(delivery_tag, Outcome.REJECT_AND_REQUEUE if requeue else Outcome.REJECT, False)
        return self._done

    def basic_recover(self, requeue: bool = True, callback: Any = None) -> DoneT:
        """Give back everything that was handed to a callback and is not settled."""
        self._settle(0, Outcome.NACK_AND_REQUEUE, True)
        return self._done

    def _settle(self, tag: int, outcome: Outcome, multiple: bool) -> None:
        session = self._session
        if not self._publishes and not multiple:
            if not session.settlement.settle(tag, outcome):
                session.nothing_to_settle(tag)
            return
        claimed = session.settlement.claim(tag, multiple=multiple)
        if not claimed:
            if not multiple:
                session.nothing_to_settle(tag)
            return
        if outcome is Outcome.ACK:
            with session.publishing:
                publishes, self._publishes = self._publishes, None
            if publishes is not None:
                publishes.ack_when_confirmed(claimed)
                return
        for each in claimed:
            session.settlement.send(each, outcome)

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
        properties = _copy(properties)
        check_properties(properties)
        if properties.delivery_mode is None:
            properties.delivery_mode = PERSISTENT
        route = self.route
        if exchange:
            return Message(exchange, routing_key, body, properties, mandatory=mandatory)
        if self._request is not None and routing_key == self._request[0]:
            self.has_answered = True
        if route is not None and routing_key == route.queue:
            self.has_answered = True
            properties.correlation_id = route.correlation_id
            return Message("", route.reply_to, body, properties)
        if is_reply_name(routing_key):
            # a live direct one is delivered and returned as well, so it cannot be mandatory
            return Message("", routing_key, body, properties)
        return Message("", routing_key, body, properties, mandatory=True, declare_missing=True)

    def _expect_confirm(self) -> PendingPublishes:
        """Note a publish that is to be made; return what is told its end, which acks wait for."""
        with self._session.publishing:
            publishes = self._publishes
            if publishes is None:
                publishes = self._publishes = PendingPublishes(self._session, self._report)
            publishes.add()
            return publishes

    # -- answering -----------------------------------------------------------------------------

    def _may_answer_here(self, message: Message) -> bool:
        """Whether a message is an answer that may leave where its request came.

        That is as safe as a confirm. All answers to one request go the same way, so that they stay
        in order.
        """
        if message.exchange or not is_direct_reply_name(message.routing_key):
            return False
        session = self._session
        tag = 0 if self.delivery is None else self.delivery.method.delivery_tag
        if self._answers_here is None:
            self._answers_here = is_harmless(message) and session.may_answer(tag)
        elif not session.settlement.is_open(tag):
            self._answers_here = False  # after the ack: safety before order
        return self._answers_here

    def note_request(self, body: object, queue: object, wire_format: WireFormat) -> None:
        """Note what the message says, so that it is not decoded again for its answer.

        Args:
            body: what was decoded; nothing is noted if it is not the body of the message.
            queue: what it names as ``routing_key``.
            wire_format: the format it is in.
        """
        if self.delivery is not None and self.delivery.body is body:
            self._request = (queue, wire_format)

    def reply(self, queue: str | None = None) -> Reply | None:
        """Return how the request is answered.

        Args:
            queue: where something is about to be sent, which may be the answer.

        Returns:
            None when that does not answer it, or when its sender wants no answer.
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
        return reply_to(properties, self.route, named, wire_format)

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
            data: what it says.
            reply: how it is sent.
            expiration: how long it may wait in a queue, in milliseconds.
            error: for an error answer: the name of the exception.

        Returns:
            In a coroutine what may be awaited: the confirm.

        Raises:
            EncodeError: the data has no representation in the format of the request.
            PublishError: there is no connection to publish on.
            ReaderGoneError: there were parts before, and they are not read any more.
        """
        self.has_answered = True
        if self._reader is None:
            self._reader = Reader(self._session, reply.queue)
        else:
            self._reader.check()
        owner = self._session.connections.owner
        return self._publish(
            make_answer(data, reply, app_id=owner, expiration=expiration, error=error)
        )

    # -- consuming -----------------------------------------------------------------------------

    def basic_cancel(self, consumer_tag: str = "", callback: FrameCallback | None = None) -> DoneT:
        """Stop this consumer."""
        self._session.stop_consumer()
        if callback is not None:
            callback(pika.frame.Method(1, Basic.CancelOk(consumer_tag)))
        return self._done

    def stop_consuming(self, consumer_tag: str | None = None) -> DoneT:
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
current_channel: ContextVar[DeliveryChannel[Any, Any] | None] = ContextVar(
    "current_channel", default=None
)


def answer_in_kind(destination: Destination) -> Reply | None:
    """Return how a message is sent that answers the request which the running callback handles.

    Args:
        destination: where the message goes.

    Returns:
        None when it is no answer.
    """
    channel = current_channel.get()
    if channel is None or destination.exchange or not destination.queue:
        return None
    reply = channel.reply(destination.queue)
    if reply is not None:
        channel.has_answered = True
    return reply


def _copy(properties: BasicProperties | None) -> BasicProperties:
    """Copy properties, as `copy.copy` does in ten times the time."""
    copied = BasicProperties.__new__(BasicProperties if properties is None else type(properties))
    copied.__dict__.update(vars(BasicProperties() if properties is None else properties))
    return copied
