"""The channel that callbacks get: it looks like pika's and may be used from any thread.

Each kind of operation goes where it belongs: settlements to where the message came, publishes to
the publishing connection (but see `Session.may_answer`), and whatever the broker may refuse to the
control connection, where a refusal harms nobody else. Refusals are raised as pika's exceptions, as
callbacks written for pika expect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import pika.exceptions as pika_errors
import pika.frame
from pika.spec import Basic, BasicProperties, Confirm, Queue

from neon_mq_connector.consumers.delivery_channel import (
    DeliveryChannel,
    as_pika_raises,
    check_names,
    declared,
)
from neon_mq_connector.consumers.reply_route import ReplyRoute
from neon_mq_connector.consumers.settlement import Verdict
from neon_mq_connector.envelope import DIRECT_REPLY_TO, is_direct_reply_name
from neon_mq_connector.errors import (
    MQConnectionError,
    PublishRejectedError,
    PublishTimeoutError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Delivery, EncodedProperties
from neon_mq_connector.publishing.confirm_channel import Flush, Message
from neon_mq_connector.topology import Queue as QueueSpec
from neon_mq_connector.topology import check_name, declare_queue

if TYPE_CHECKING:
    from neon_mq_connector.consumers.callback_connection import CallbackConnection
    from neon_mq_connector.consumers.session import Session


#: Every broker takes so many bytes; one that finds a message too large closes the channel.
_LARGEST_ANSWER = 65_536


class CallbackChannel(DeliveryChannel):
    """Stand in for the pika channel of one delivery, in callbacks that are functions.

    Args:
        session: the generation of the consuming channel.
        delivery: the message; None for none.
        route: how it may be answered directly.
    """

    __slots__ = ("_answers_here", "_confirms")

    def __init__(
        self, session: Session, delivery: Delivery | None = None, route: ReplyRoute | None = None
    ) -> None:
        self._session = session
        self.delivery = delivery
        self.route = route
        self._request = None
        self._answers_here: bool | None = None
        self._publishes = None
        self._confirms: _Confirms | None = None

    @property
    def connection(self) -> CallbackConnection:
        """A stand-in for the connection."""
        return self._session.connection

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> None:
        """Stop this consumer; other consumers are not disturbed."""
        self._session.stop_consumer()

    def add_on_close_callback(self, callback: Callable[[Any, Any], object]) -> None:
        """Have the consumer's thread call something when the consumer is detached.

        Args:
            callback: called with this channel and the reason, an `MQError` as a rule.
        """
        self._session.connection.add_on_close_callback(
            lambda _connection, reason: callback(self, reason)
        )

    # -- settling ------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Acknowledge; what this callback has published is confirmed before the ack leaves."""
        if self._publishes is not None or multiple:
            self._settle(delivery_tag, Verdict.ACK, multiple)
        elif not self._session.settlement.acknowledge(delivery_tag):
            self._session.nothing_to_settle(delivery_tag)

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> None:
        """Give a message back, or have it dropped or dead-lettered."""
        self._settle(delivery_tag, Verdict.NACK_AND_REQUEUE if requeue else Verdict.NACK, multiple)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """Fail a message: back to its queue, or dropped or dead-lettered."""
        self._settle(delivery_tag, Verdict.REJECT_AND_REQUEUE if requeue else Verdict.REJECT, False)

    def basic_recover(self, requeue: bool = True, callback: Any = None) -> None:
        """Give back everything that was handed to a callback and is not settled."""
        self._settle(0, Verdict.NACK_AND_REQUEUE, True)

    # -- publishing ----------------------------------------------------------------------------

    def confirm_delivery(
        self,
        ack_nack_callback: Callable[[pika.frame.Method[Any]], object] | None = None,
        callback: Callable[[pika.frame.Method[Any]], object] | None = None,
    ) -> None:
        """Have `basic_publish` wait for the broker's confirm, as pika's blocking channel does.

        Args:
            ack_nack_callback: called with the frame of each confirm; a nack raises all the same.
            callback: called when that is so.
        """
        self._confirms = _Confirms(ack_nack_callback)
        if callback is not None:
            callback(pika.frame.Method(1, Confirm.SelectOk()))

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        """Publish; the broker does not get an ack of this callback before it has the message.

        That is confirmed by the broker, but for answers that leave by the channel of their request.
        A message for a queue that does not exist has it declared. The answer to a request that
        came with a direct reply-to goes there.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
            PublishError: there is no connection to publish on.
            pika.exceptions.UnroutableError, pika.exceptions.NackError: after `confirm_delivery`.
        """
        self._publish(self._message(exchange, routing_key, body, properties, mandatory))

    def _publish(self, message: Message) -> None:
        confirms = self._confirms
        direct = not message.exchange and is_direct_reply_name(message.routing_key)
        if direct and confirms is None and self._answer(message):
            return
        publisher = self._session.connections.publisher
        if confirms is not None:
            try:
                publisher.publish(message, timeout=self._timeout)
            except UnroutableError as error:
                raise pika_errors.UnroutableError([]) from error
            except PublishRejectedError as error:
                confirms.tell(Basic.Nack)
                raise pika_errors.NackError([]) from error
            confirms.tell(Basic.Ack)
            return
        publishes = self._expect_confirm()
        try:
            # with the answers of the callbacks that follow at once; however long they take, the
            # I/O thread sends it within some milliseconds
            flush = Flush.SOON if self._session.more_follows else Flush.NOW
            publisher.post(message, publishes, time.monotonic() + self._timeout, flush)
        except BaseException:
            publishes.resolve(None)  # there is nothing that an ack would have to wait for
            raise

    def _report(self, error: BaseException) -> None:
        self._session.report_publish(error)

    def _answer(self, message: Message) -> bool:
        """Send an answer where its request came, if that is as safe as a confirm.

        All answers to one request go the same way, so that they stay in order.

        Returns:
            Whether it was sent.
        """
        session = self._session
        tag = 0 if self.delivery is None else self.delivery.method.delivery_tag
        if self._answers_here is None:
            self._answers_here = _is_harmless(message) and session.may_answer(tag)
        elif not session.settlement.is_open(tag):
            self._answers_here = False  # after the ack: safety before order
        if self._answers_here:
            try:
                session.answer(message, self._timeout)
            except WaitTimeoutError as error:
                raise PublishTimeoutError(
                    f"{message}: not sent: {error}", may_have_arrived=False
                ) from error
            except MQConnectionError:
                # the request comes again; as with every session that is over, the answer is sent
                self._answers_here = False
        return self._answers_here

    # -- what the broker may refuse ------------------------------------------------------------

    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        callback: Callable[[pika.frame.Method[Any]], object] | None = None,
    ) -> pika.frame.Method[Any]:
        """Declare a queue; one that exists with other properties is used as it is.

        Returns:
            pika's frame; its ``method`` has ``queue``, ``message_count`` and ``consumer_count``.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the broker refused.
            ValueError: the name cannot be used.
        """
        spec = QueueSpec(queue, durable, exclusive, auto_delete, arguments or {})
        if self._answers_directly(queue):
            frame = declared(queue, 0, 0)
        elif passive or exclusive:
            frame = self._control(
                "queue_declare",
                queue,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
            )
            if exclusive:
                self._session.connections.note_exclusive(frame.method.queue)
        else:
            control = self._session.connections.control
            status = self._wait(
                lambda: control.perform(
                    f"declaring queue {queue!r}",
                    lambda facts: declare_queue(spec, facts),
                    timeout=self._timeout,
                )
            )
            frame = declared(status.name, status.messages, status.consumers)
        if callback is not None:
            callback(frame)
        return frame

    def queue_delete(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Delete a queue, as pika does."""
        if not self._answers_directly(queue):
            return self._control("queue_delete", queue, *args, **kwargs)
        frame = pika.frame.Method(1, Queue.DeleteOk(0))
        if kwargs.get("callback") is not None:
            kwargs["callback"](frame)
        return frame

    def queue_bind(self, *args: Any, **kwargs: Any) -> Any:
        """Bind a queue to an exchange, as pika does."""
        return self._control("queue_bind", *args, **kwargs)

    def queue_unbind(self, *args: Any, **kwargs: Any) -> Any:
        """Unbind a queue from an exchange, as pika does."""
        return self._control("queue_unbind", *args, **kwargs)

    def queue_purge(self, *args: Any, **kwargs: Any) -> Any:
        """Remove the ready messages of a queue, as pika does."""
        return self._control("queue_purge", *args, **kwargs)

    def exchange_declare(self, *args: Any, **kwargs: Any) -> Any:
        """Declare an exchange, as pika does."""
        return self._control("exchange_declare", *args, **kwargs)

    def exchange_delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete an exchange, as pika does."""
        return self._control("exchange_delete", *args, **kwargs)

    def exchange_bind(self, *args: Any, **kwargs: Any) -> Any:
        """Bind an exchange to another, as pika does."""
        return self._control("exchange_bind", *args, **kwargs)

    def exchange_unbind(self, *args: Any, **kwargs: Any) -> Any:
        """Unbind an exchange from another, as pika does."""
        return self._control("exchange_unbind", *args, **kwargs)

    def _control(self, method: str, *args: Any, callback: Any = None, **kwargs: Any) -> Any:
        check_names(method, args, kwargs)
        frame = self._wait(
            lambda: self._session.connections.control.call(
                f"{method}{args!r}",
                lambda channel: getattr(channel, method)(*args, **kwargs),
                timeout=self._timeout,
            )
        )
        if callback is not None:
            callback(frame)
        return frame

    @staticmethod
    def _wait(operation: Callable[[], Any]) -> Any:
        try:
            return operation()
        except (WaitTimeoutError, TopologyError) as error:
            raise as_pika_raises(error) from None

    # -- consuming -----------------------------------------------------------------------------

    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: Any = None,
    ) -> None:
        """Change how many messages the broker sends ahead to this consumer.

        A count for the whole channel (``global_qos``) comes to the same: it has one consumer, and
        newer brokers refuse it. A prefetch in bytes is refused by every RabbitMQ and ignored.
        """
        self._session.set_prefetch(prefetch_count)
        if callback is not None:
            callback(pika.frame.Method(1, Basic.QosOk()))

    def basic_get(
        self, queue: str, auto_ack: Any = False, callback: Any = None
    ) -> tuple[Any, Any, Any]:
        """Take one message from a queue.

        Args:
            queue: its name.
            auto_ack: whether it is acknowledged. pika's `Channel`, unlike its `BlockingChannel`,
                has the callback in this place; it may be given here too.
            callback: called with ``(channel, method, properties, body)`` if there is a message.

        Returns:
            ``(method, properties, body)``; three times None when the queue is empty.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the queue does not exist.
        """
        if callable(auto_ack):
            auto_ack, callback = bool(callback), auto_ack
        check_name("queue", queue)
        if self._session.connections.has_exclusive(queue):
            answer = self._get_exclusive(queue, auto_ack)
        else:
            answer = self._session.get(queue, auto_ack)
        if callback is not None and answer[0] is not None:
            callback(self, *answer)
        return answer

    def _get_exclusive(self, queue: str, auto_ack: bool) -> tuple[Any, Any, Any]:
        if not auto_ack:
            raise NotImplementedError(
                f"queue {queue!r} is exclusive to the connection that declared it, where nothing "
                "can be settled later; use basic_get(..., auto_ack=True)"
            )
        answer: tuple[Any, Any, Any] = self._control("basic_get", queue, auto_ack=True)
        return answer

    def basic_cancel(self, consumer_tag: str = "", callback: Any = None) -> None:
        """Stop this consumer."""
        self._session.stop_consumer()
        if callback is not None:
            callback(pika.frame.Method(1, Basic.CancelOk(consumer_tag)))

    def stop_consuming(self, consumer_tag: str | None = None) -> None:
        """Stop this consumer."""
        self._session.stop_consumer()

    def basic_consume(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a consumer is registered with the connector, which then watches over it."""
        raise NotImplementedError(
            "a callback's channel does not start consumers; use register_consumer on the connector "
            "(in a callback too) or create_mq_connection() for a connection of your own"
        )


def _is_harmless(message: Message) -> bool:
    """Whether there is nothing in a message for which a broker would close the channel."""
    properties = message.properties
    if len(message.body) > _LARGEST_ANSWER:
        return False
    if isinstance(properties, EncodedProperties):
        return True  # made here, with nothing of that kind
    headers = properties.headers
    return (
        properties.user_id is None
        and properties.reply_to != DIRECT_REPLY_TO
        and not (headers and ("CC" in headers or "BCC" in headers))
    )


class _Confirms:
    """The confirms of one channel, for whoever wants to see each; used by one thread at a time."""

    __slots__ = ("_callback", "_count")

    def __init__(self, callback: Callable[[pika.frame.Method[Any]], object] | None) -> None:
        self._callback = callback
        self._count = 0

    def tell(self, kind: type[Basic.Ack | Basic.Nack]) -> None:
        self._count += 1
        if self._callback is not None:
            self._callback(pika.frame.Method(1, kind(self._count)))
