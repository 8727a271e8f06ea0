"""What the channels of callbacks have in common, those of functions and those of coroutines."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pika.exceptions as pika_errors
import pika.frame
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties, Queue

from neon_mq_connector.codec import WireFormat, decode_body
from neon_mq_connector.consumers.answers import Reply, make_answer
from neon_mq_connector.consumers.pending_publishes import PendingPublishes
from neon_mq_connector.consumers.reply_route import ReplyRoute
from neon_mq_connector.consumers.settlement import Verdict
from neon_mq_connector.envelope import (
    LONGEST_EXPIRATION,
    PERSISTENT,
    is_direct_reply_name,
    is_reply_name,
)
from neon_mq_connector.errors import DecodeError, TopologyError, WaitTimeoutError
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.topology import PRECONDITION_FAILED, Refusal, check_name

if TYPE_CHECKING:
    from neon_mq_connector.consumers.session import Session


class DeliveryChannel:
    """What one delivery may be answered and settled on.

    It belongs to one generation of the consuming channel: once that is shut, settlements are
    dropped (the broker delivers again), publishes and declares go on.

    One is made for each message. So there is no constructor here that another would have to call:
    a class that derives sets the session, the delivery and its route, and that nothing is published
    yet.

    Attributes:
        delivery: the message; None where the channel belongs to none.
        route: how it may be answered directly, if it may.
    """

    __slots__ = ("_publishes", "_request", "_session", "delivery", "route")

    _session: Session
    _publishes: PendingPublishes | None
    # what the message names for its answer, and its format; None as long as it was not read
    _request: tuple[object, WireFormat] | None
    delivery: Delivery | None
    route: ReplyRoute | None

    @property
    def _timeout(self) -> float:
        return self._session.connections.policy.operation_timeout

    # -- state ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether deliveries of this channel can still be settled."""
        return self._session.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the channel is closed."""
        return not self._session.is_open

    @property
    def channel_number(self) -> int:
        """The number of the generation; AMQP's own number is the library's business."""
        return self._session.number

    @property
    def consumer_tags(self) -> list[str]:
        """The tag of the consumer, while it consumes."""
        tag = self._session.consumer_tag
        return [tag] if tag and self._session.is_open else []

    # -- answering -----------------------------------------------------------------------------

    def note_request(self, body: object, queue: object, wire_format: WireFormat) -> None:
        """Note what the message says, so that it is not decoded again for its answer.

        Args:
            body: what was decoded; nothing is noted if it is not the body of the message.
            queue: what it names as ``routing_key``.
            wire_format: the format it is in.
        """
        if self.delivery is not None and self.delivery.body is body:
            self._request = (queue, wire_format)

    def reply(self, queue: str) -> Reply | None:
        """Return how a message for a queue is sent as the answer to the request.

        Returns:
            None when it does not answer it.
        """
        delivery = self.delivery
        if delivery is None:
            return None
        _method, properties, body = delivery
        if self._request is None:
            try:
                data, wire_format = decode_body(body, properties.content_type)
            except DecodeError:
                self._request = (None, WireFormat.LEGACY)
            else:
                self._request = (data.get("routing_key"), wire_format)
        named, wire_format = self._request
        if named != queue:
            return None
        route = self.route
        if route is not None and route.queue == queue:
            return Reply(route.reply_to, wire_format, route.correlation_id)
        return Reply(queue, wire_format, properties.correlation_id)

    def answer(self, data: Mapping[str, Any], reply: Reply) -> None:
        """Publish the answer to the request; an ack that follows waits for its confirm.

        Args:
            data: what it says.
            reply: how it is sent.

        Raises:
            EncodeError: the data has no representation in the format of the request.
            PublishError: there is no connection to publish on.
        """
        self._publish(make_answer(data, reply, app_id=self._session.connections.owner))

    # -- for those that derive from it ----------------------------------------------------------

    def _publish(self, message: Message) -> Any:
        raise NotImplementedError

    def _report(self, error: BaseException) -> None:
        """Tell of a publish that failed and that no ack waits for."""
        raise NotImplementedError

    def _expect_confirm(self) -> PendingPublishes:
        """Note a publish that is about to be made.

        Returns:
            What is to be told its end; an ack that follows waits for that.
        """
        with self._session.publishing:
            publishes = self._publishes
            if publishes is None:
                publishes = self._publishes = PendingPublishes(self._session, self._report)
            publishes.add()
            return publishes

    def _settle(self, tag: int, verdict: Verdict, multiple: bool) -> None:
        session = self._session
        if not self._publishes and not multiple:
            if not session.settlement.settle(tag, verdict):
                session.nothing_to_settle(tag)
            return
        claimed = session.claim(tag, multiple=multiple)
        if not claimed:
            return
        if verdict is Verdict.ACK:
            with session.publishing:
                publishes, self._publishes = self._publishes, None
            if publishes is not None:
                publishes.ack_when_confirmed(claimed)
                return
        for each in claimed:
            session.settlement.send(each.tag, verdict)

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
        _check(properties)
        if properties.delivery_mode is None:
            properties.delivery_mode = PERSISTENT
        route = self.route
        if exchange:
            return Message(exchange, routing_key, body, properties, mandatory=mandatory)
        if route is not None and routing_key == route.queue:
            properties.correlation_id = route.correlation_id
            return Message("", route.reply_to, body, properties)
        if is_reply_name(routing_key):
            # a live direct one is delivered and returned as well, so it cannot be mandatory
            return Message("", routing_key, body, properties)
        return Message("", routing_key, body, properties, mandatory=True, declare_missing=True)

    def _answers_directly(self, queue: str) -> bool:
        return is_direct_reply_name(queue) or (self.route is not None and queue == self.route.queue)


def _check(properties: BasicProperties) -> None:
    """Refuse what the broker refuses: it would close the channel on which others publish, too.

    Raises:
        pika.exceptions.ChannelClosedByBroker: as it would be on a channel of the callback's own.
    """
    expiration, headers = properties.expiration, properties.headers
    if isinstance(expiration, str) and not (
        expiration.isascii() and expiration.isdigit() and int(expiration) <= LONGEST_EXPIRATION
    ):
        raise pika_errors.ChannelClosedByBroker(
            PRECONDITION_FAILED,
            f"PRECONDITION_FAILED - invalid expiration '{expiration}': a number of milliseconds, "
            f"from 0 to {LONGEST_EXPIRATION}, as text",
        )
    for name in ("CC", "BCC") if headers else ():
        keys = headers.get(name)
        if keys is not None and not (
            isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        ):
            raise pika_errors.ChannelClosedByBroker(
                PRECONDITION_FAILED,
                f"PRECONDITION_FAILED - invalid header {name}: a list of routing keys is expected",
            )


_NAMES = ("queue", "exchange", "destination", "source", "routing_key")
_signature = functools.lru_cache(inspect.signature)


def check_names(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse names that cannot be used, in the arguments for a method of pika's channel.

    Raises:
        ValueError: a name cannot be used; see `check_name`.
        TypeError: pika's method takes no such arguments.
    """
    given = (
        _signature(getattr(BlockingChannel, method)).bind_partial(None, *args, **kwargs).arguments
    )
    for kind in _NAMES:
        if isinstance(given.get(kind), str):
            check_name(kind.replace("_", " "), given[kind])


def as_pika_raises(error: BaseException) -> BaseException:
    """Give the exception by which pika would tell of an error of the control connection."""
    if isinstance(error, WaitTimeoutError):
        late = pika_errors.AMQPConnectionError(str(error))
        late.__cause__ = error
        return late
    refusal = error.__cause__ if isinstance(error, TopologyError) else error
    if isinstance(refusal, Refusal) and refusal.__cause__ is not None:
        return refusal.__cause__
    return error


def _copy(properties: BasicProperties | None) -> BasicProperties:
    """Copy properties, as `copy.copy` does in ten times the time."""
    copied = BasicProperties.__new__(BasicProperties if properties is None else type(properties))
    copied.__dict__.update(vars(BasicProperties() if properties is None else properties))
    return copied


def declared(queue: str, messages: int, consumers: int) -> pika.frame.Method[Any]:
    """Make pika's frame that tells of a declared queue."""
    return pika.frame.Method(
        1, Queue.DeclareOk(queue=queue, message_count=messages, consumer_count=consumers)
    )
