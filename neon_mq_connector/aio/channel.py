"""The channel that coroutines get: pika's, with operations that may be awaited and need not be.

Each begins when it is called, as on the channel that functions get, and never holds up the loop.
What fails and is not awaited is told all the same: a publish to ``on_error``, or to the message
whose ack depends on it; anything else to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pika.frame
from pika.spec import Basic, BasicProperties, Confirm, Queue

from neon_mq_connector.aio.channel_operations import BrokerOperation, PublishOperation
from neon_mq_connector.aio.connection import AwaitableConnection, ChannelHost
from neon_mq_connector.aio.operation import DONE, Done, Operation, Unawaited
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel, check_names, declared
from neon_mq_connector.consumers.settlement import Verdict
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.topology import Queue as QueueSpec
from neon_mq_connector.topology import check_name, declare_queue

if TYPE_CHECKING:
    from neon_mq_connector.consumers.reply_route import ReplyRoute
    from neon_mq_connector.consumers.session import Session
    from neon_mq_connector.control.connection import ControlConnection

LOG = logging.getLogger("neon_mq_connector.aio")

# older releases of pika have no generic class there
FrameCallback = Callable[["pika.frame.Method[Any]"], object]


class AwaitableChannel(DeliveryChannel):
    """Stand in for the pika channel of one delivery, in callbacks that are coroutines.

    Every operation may be called by any thread, and awaited on the loop.

    Args:
        session: the generation of the consuming channel.
        host: what it shares with others.
        delivery: the message; None for none.
        route: how it may be answered directly.
    """

    __slots__ = ("_host", "_unawaited")

    def __init__(
        self,
        session: Session,
        host: ChannelHost,
        delivery: Delivery | None = None,
        route: ReplyRoute | None = None,
    ) -> None:
        self._session = session
        self.delivery = delivery
        self.route = route
        self._request = None
        self._publishes = None
        self._host = host
        self._unawaited: Unawaited | None = None

    @property
    def is_attached(self) -> bool:
        """Whether deliveries can be settled; during a stop they can, though it `is_closed`."""
        return self._session.is_attached

    @property
    def connection(self) -> AwaitableConnection:
        """A stand-in for the connection."""
        session, host = self._session, self._host
        return AwaitableConnection(session, host, partial(FurtherAwaitableChannel, session, host))

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> Done:
        """Stop this consumer; other consumers are not disturbed."""
        self._session.stop_consumer()
        return DONE

    def add_on_close_callback(self, callback: Callable[[Any, Any], object]) -> None:
        """Have the loop call something when the consumer is detached.

        Args:
            callback: called with this channel and the reason, an `MQError` as a rule.
        """
        call = self._host.loop.call
        self._session.connection.add_on_close_callback(
            lambda _connection, reason: call(callback, self, reason)
        )

    def callback_over(self) -> None:
        """Take note that the callback has ended: what it has not awaited it never will."""
        if self._unawaited is not None:
            self._unawaited.end()

    # -- settling ------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> Done:
        """Acknowledge; what this callback has published is confirmed before the ack leaves.

        Like all settling it is done by the call; to await it is allowed and does nothing more.
        """
        self._settle(delivery_tag, Verdict.ACK, multiple)
        return DONE

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> Done:
        """Give a message back, or have it dropped or dead-lettered."""
        self._settle(delivery_tag, Verdict.NACK_AND_REQUEUE if requeue else Verdict.NACK, multiple)
        return DONE

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> Done:
        """Fail a message: back to its queue, or dropped or dead-lettered."""
        self._settle(delivery_tag, Verdict.REJECT_AND_REQUEUE if requeue else Verdict.REJECT, False)
        return DONE

    def basic_recover(self, requeue: bool = True, callback: Any = None) -> Done:
        """Give back everything that was handed to a callback and is not settled."""
        self._settle(0, Verdict.NACK_AND_REQUEUE, True)
        return DONE

    # -- publishing ----------------------------------------------------------------------------

    def confirm_delivery(
        self,
        ack_nack_callback: FrameCallback | None = None,
        callback: FrameCallback | None = None,
    ) -> Done:
        """Do nothing: every `basic_publish` is confirmed, for whoever awaits it.

        Raises:
            NotImplementedError: a callback for each confirm is asked for.
        """
        if ack_nack_callback is not None:
            raise NotImplementedError(
                "a coroutine's channel calls nothing for each confirm: await basic_publish(...)"
            )
        if callback is not None:
            callback(pika.frame.Method(1, Confirm.SelectOk()))
        return DONE

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> Operation:
        """Publish; awaiting it waits for the broker's confirm, an ack of this callback does too.

        Messages leave in the order of the calls. A message for a queue that does not exist has it
        declared. The answer to a request that came with a direct reply-to goes there.

        Returns:
            What may be awaited. It raises then: ``pika.exceptions.UnroutableError`` or
            ``NackError``, ``ChannelClosedByBroker`` when the exchange does not exist, or
            `PublishError`. A failure that is caught there does not fail the message.

        Raises:
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
            StoppedError: the connections are closed.
        """
        return self._publish(self._message(exchange, routing_key, body, properties, mandatory))

    def _publish(self, message: Message) -> Operation:
        timeout, publisher = self._timeout, self._session.connections.publisher
        publishes = self._expect_confirm()
        publish = PublishOperation(
            message, self._host.loop, timeout, self._get_unawaited(), publishes, publisher
        )
        try:
            self._host.outbox.send(message, publish, timeout=timeout)
        except BaseException:
            publishes.resolve(None)  # there is nothing that an ack would have to wait for
            raise
        return publish

    def _report(self, error: BaseException) -> None:
        """Leave it to the operation, which knows whether somebody awaits it."""

    # -- what the broker may refuse ------------------------------------------------------------

    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        callback: FrameCallback | None = None,
    ) -> Operation:
        """Declare a queue; one that exists with other properties is used as it is.

        Returns:
            What may be awaited: for pika's frame, whose ``method`` has ``queue``,
            ``message_count`` and ``consumer_count``. It raises
            ``pika.exceptions.ChannelClosedByBroker`` when the broker has refused.
        """
        what = f"queue_declare({queue!r})"
        spec = QueueSpec(queue, durable, exclusive, auto_delete, arguments or {})
        if self._answers_directly(queue):
            return self._answered(what, declared(queue, 0, 0), callback)
        if passive or exclusive:
            connections = self._session.connections

            def ask(connection: ControlConnection) -> Any:
                frame = connection.channel().queue_declare(
                    queue,
                    passive=passive,
                    durable=durable,
                    exclusive=exclusive,
                    auto_delete=auto_delete,
                    arguments=arguments,
                )
                if exclusive:
                    connections.note_exclusive(frame.method.queue)
                return frame

            return self._submit(what, ask, callback)

        def declare(connection: ControlConnection) -> Any:
            status = connection.drive(declare_queue(spec, connection.facts))
            return declared(status.name, status.messages, status.consumers)

        return self._submit(what, declare, callback)

    def queue_delete(self, queue: str, *args: Any, **kwargs: Any) -> Operation:
        """Delete a queue, as pika does."""
        if self._answers_directly(queue):
            frame = pika.frame.Method(1, Queue.DeleteOk(0))
            return self._answered("queue_delete", frame, kwargs.get("callback"))
        return self._control("queue_delete", queue, *args, **kwargs)

    def queue_bind(self, *args: Any, **kwargs: Any) -> Operation:
        """Bind a queue to an exchange, as pika does."""
        return self._control("queue_bind", *args, **kwargs)

    def queue_unbind(self, *args: Any, **kwargs: Any) -> Operation:
        """Unbind a queue from an exchange, as pika does."""
        return self._control("queue_unbind", *args, **kwargs)

    def queue_purge(self, *args: Any, **kwargs: Any) -> Operation:
        """Remove the ready messages of a queue, as pika does."""
        return self._control("queue_purge", *args, **kwargs)

    def exchange_declare(self, *args: Any, **kwargs: Any) -> Operation:
        """Declare an exchange, as pika does."""
        return self._control("exchange_declare", *args, **kwargs)

    def exchange_delete(self, *args: Any, **kwargs: Any) -> Operation:
        """Delete an exchange, as pika does."""
        return self._control("exchange_delete", *args, **kwargs)

    def exchange_bind(self, *args: Any, **kwargs: Any) -> Operation:
        """Bind an exchange to another, as pika does."""
        return self._control("exchange_bind", *args, **kwargs)

    def exchange_unbind(self, *args: Any, **kwargs: Any) -> Operation:
        """Unbind an exchange from another, as pika does."""
        return self._control("exchange_unbind", *args, **kwargs)

    def _control(self, method: str, *args: Any, callback: Any = None, **kwargs: Any) -> Operation:
        check_names(method, args, kwargs)
        return self._submit(
            f"{method}{args!r}",
            lambda connection: getattr(connection.channel(), method)(*args, **kwargs),
            callback,
        )

    def _submit(
        self,
        what: str,
        job: Callable[[ControlConnection], Any],
        callback: Callable[[Any], object] | None,
    ) -> Operation:
        operation = self._operation(what, callback)
        session = self._session
        control = session.connections.control
        try:
            control.submit(job, operation, timeout=self._timeout)
            session.link.call_later(self._timeout, control.give_up_overdue)
        except StoppedError as error:
            operation.fail(error)
        return operation

    def _answered(self, what: str, answer: Any, callback: FrameCallback | None) -> Operation:
        operation = self._operation(what, callback)
        operation.resolve(answer)
        return operation

    def _operation(
        self, what: str, callback: Callable[[Any], object] | None = None
    ) -> BrokerOperation:
        return BrokerOperation(
            what, self._host.loop, self._timeout, self._get_unawaited(), callback
        )

    def _get_unawaited(self) -> Unawaited:
        if self._unawaited is None:
            self._unawaited = Unawaited(self._tell)
        return self._unawaited

    def _tell(self, operation: Operation) -> None:
        """Tell of a failure that nobody has awaited."""
        if isinstance(operation, PublishOperation):
            assert operation.error is not None
            self._host.report(operation.error)
            return
        LOG.error(
            "queue %r: %s of callback %s failed, and it was not awaited: %s",
            self._session.queue,
            operation.what,
            self._host.callback_name,
            operation.error,
        )

    # -- consuming -----------------------------------------------------------------------------

    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: FrameCallback | None = None,
    ) -> Operation:
        """Change how many messages the broker sends ahead to this consumer.

        A count for the whole channel (``global_qos``) comes to the same: it has one consumer, and
        newer brokers refuse it. A prefetch in bytes is refused by every RabbitMQ and ignored.
        """
        session = self._session

        def change() -> Any:
            if session.is_open:
                session.set_prefetch(prefetch_count)
            return pika.frame.Method(1, Basic.QosOk())

        operation = self._operation(f"basic_qos(prefetch_count={prefetch_count})", callback)
        self._host.outbox.run(change, operation)
        return operation

    def basic_get(
        self, queue: str, auto_ack: bool = False, callback: Callable[..., object] | None = None
    ) -> Operation:
        """Take one message from a queue.

        Args:
            queue: its name.
            auto_ack: whether it is acknowledged.
            callback: called with ``(channel, method, properties, body)`` if there is a message.

        Returns:
            What may be awaited: for ``(method, properties, body)``, three times None when the queue
            is empty. It raises ``pika.exceptions.ChannelClosedByBroker`` when there is no such
            queue.
        """

        def got(answer: tuple[Any, Any, Any]) -> None:
            if callback is not None and answer[0] is not None:
                callback(self, *answer)

        check_name("queue", queue)
        what, call = f"basic_get({queue!r})", None if callback is None else got
        session = self._session
        if not session.connections.has_exclusive(queue):
            operation = self._operation(what, call)
            self._host.outbox.run(partial(session.get, queue, auto_ack), operation)
            return operation
        if not auto_ack:
            raise NotImplementedError(
                f"queue {queue!r} is exclusive to the connection that declared it, where nothing "
                "can be settled later; use basic_get(..., auto_ack=True)"
            )
        return self._submit(
            what, lambda connection: connection.channel().basic_get(queue, auto_ack=True), call
        )

    def basic_cancel(self, consumer_tag: str = "", callback: FrameCallback | None = None) -> Done:
        """Stop this consumer."""
        self._session.stop_consumer()
        if callback is not None:
            callback(pika.frame.Method(1, Basic.CancelOk(consumer_tag)))
        return DONE

    def stop_consuming(self, consumer_tag: str | None = None) -> Done:
        """Stop this consumer."""
        self._session.stop_consumer()
        return DONE

    def basic_consume(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a consumer is registered with the connector, which then watches over it."""
        raise NotImplementedError(
            "a callback's channel does not start consumers; use register_consumer on the connector"
        )


class FurtherAwaitableChannel(AwaitableChannel):
    """A channel on which nothing is consumed; `_closed` is set once, by any thread."""

    __slots__ = ("_closed",)

    def __init__(self, session: Session, host: ChannelHost) -> None:
        super().__init__(session, host)
        self._closed = False
        self._get_unawaited().end()  # it belongs to no callback that would come to know later

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._closed and super().is_open

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or the consumer is detached."""
        return not self.is_open

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> Done:
        """Close this channel alone."""
        self._closed = True
        return DONE
