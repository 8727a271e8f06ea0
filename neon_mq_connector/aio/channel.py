"""The channel and the connection of callbacks that are coroutines: operations may be awaited.

An operation begins with the call, which never blocks the loop. A failure that is not awaited is
reported all the same: of a publish to ``on_error``, or to the message whose ack depends on it; of
anything else to the log.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika.frame
from pika.spec import BasicProperties, Confirm

from neon_mq_connector.aio.futures import DONE, Done, Operation, PublishOperation
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import Outbox
from neon_mq_connector.consumers.broker_operations import FrameCallback
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel
from neon_mq_connector.consumers.delivery_connection import DeliveryConnection
from neon_mq_connector.consumers.session import CloseCallback, ReceivedMessage, Session
from neon_mq_connector.control.control import Operation as ControlOperation
from neon_mq_connector.errors import MQConnectionError
from neon_mq_connector.publishing.message import Flush, Message

LOG = logging.getLogger("neon_mq_connector.aio")


@dataclass(frozen=True)
class ChannelHost:
    """What the channels of one consumer share."""

    loop: CoroutineLoop
    outbox: Outbox
    callback_name: str


class AwaitableChannel(DeliveryChannel):
    """Stand in for the pika channel of one delivery, in callbacks that are coroutines.

    Any thread may call an operation; it is awaited on the loop. A message is settled by the call;
    awaiting that is allowed and does nothing.

    Any thread adds to the failed operations; each is removed by one thread, which reports it.
    """

    _done = DONE
    _is_over = False

    def __init__(
        self, session: Session, host: ChannelHost, message: ReceivedMessage | None = None
    ) -> None:
        super().__init__(session, message)
        self._host = host
        self._failed: deque[Operation] = deque()

    @property
    def is_attached(self) -> bool:
        """Whether deliveries can be settled; during a stop they can, though it `is_closed`."""
        return self._session.is_attached

    @property
    def connection(self) -> AwaitableConnection:
        """A stand-in for the connection."""
        return AwaitableConnection(self._session, self._host)

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        self._host.loop.call(callback, *arguments)

    def callback_over(self) -> None:
        """Report the failures that the callback has not awaited, and later ones as they come."""
        self._is_over = True
        while self._failed:
            try:
                operation = self._failed.popleft()
            except IndexError:
                return  # another thread has reported it
            if not operation.is_known:
                self._report_unawaited(operation)

    # -- publishing ----------------------------------------------------------------------------

    def confirm_delivery(
        self,
        ack_nack_callback: FrameCallback | None = None,
        callback: FrameCallback | None = None,
    ) -> Done:
        """Do nothing: every `basic_publish` is confirmed; awaiting it waits for the confirm.

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
    ) -> Operation | Done:
        """Publish; awaiting it waits for the broker's confirm, an ack of this callback does too.

        Messages leave in the order of the calls. A message for a queue that does not exist has it
        declared. The answer to a request that came with a direct reply-to goes there.

        Returns:
            An awaitable. It raises ``pika.exceptions.UnroutableError`` or
            ``NackError``, ``ChannelClosedByBroker`` when the exchange does not exist, or
            `PublishError`. A failure that is caught where it is awaited does not fail the message.

        Raises:
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
            StoppedError: the connections are closed.
        """
        return self._publish(self._message(exchange, routing_key, body, properties, mandatory))

    def _publish(self, message: Message) -> Operation | Done:
        session, outbox, timeout = self._session, self._host.outbox, self._timeout
        answers_here = self._may_answer_here(message)
        if answers_here and not outbox.is_busy and session.is_writable:
            try:
                session.answer(message, 0.0)
            except MQConnectionError:
                # the request comes again; as with every session that is over, the answer is sent
                answers_here = self._answers_here = False
            else:
                return DONE
        publishes, publisher = self._expect_confirm(), self._publisher(message)
        publish = PublishOperation(
            message, self._host.loop, timeout, self._note_failure, publishes, publisher
        )
        try:
            if answers_here:
                outbox.run(partial(self._answer_here, message), publish)
            else:
                flush = Flush.SOON if session.more_follows else Flush.NOW
                outbox.send(message, publish, timeout=timeout, flush=flush, publisher=publisher)
        except BaseException:
            publishes.resolve(None)  # there is nothing that an ack would have to wait for
            raise
        return publish

    def _answer_here(self, message: Message) -> None:
        """Send an answer where its request came, when there is room; on the outbox's thread."""
        session, timeout = self._session, self._timeout
        try:
            session.answer(message, timeout)
        except MQConnectionError:
            session.connections.publisher.publish(message, timeout=timeout)

    def _report(self, error: BaseException) -> None:
        """Do nothing: the operation reports it, if it is not awaited."""

    # -- operations that may be awaited --------------------------------------------------------

    def _submit(
        self,
        what: str,
        operation: ControlOperation[Any],
        callback: Callable[[Any], object] | None = None,
    ) -> Operation:
        awaited = self._operation(what, callback)
        control = self._session.connections.control
        control.submit(what, operation, awaited, timeout=self._timeout)
        return awaited

    def _run(
        self,
        what: str,
        function: Callable[[], Any],
        callback: Callable[[Any], object] | None = None,
    ) -> Operation:
        operation = self._operation(what, callback)
        self._host.outbox.run(function, operation)
        return operation

    def _answered(self, what: str, answer: Any, callback: FrameCallback | None) -> Operation:
        operation = self._operation(what, callback)
        operation.resolve(answer)
        return operation

    def _operation(self, what: str, callback: Callable[[Any], object] | None) -> Operation:
        return Operation(what, self._host.loop, self._timeout, self._note_failure, callback)

    def _note_failure(self, operation: Operation) -> None:
        self._failed.append(operation)
        if self._is_over:
            self.callback_over()

    def _report_unawaited(self, operation: Operation) -> None:
        if isinstance(operation, PublishOperation):
            assert operation.error is not None
            self._session.host.report(operation.error)
            return
        LOG.error(
            "queue %r: %s of callback %s failed, and it was not awaited: %s",
            self._session.queue,
            operation.what,
            self._host.callback_name,
            operation.error,
        )


class AwaitableConnection(DeliveryConnection):
    """Stand in for the connection of one consumer, in callbacks that are coroutines."""

    _done = DONE

    def __init__(self, session: Session, host: ChannelHost) -> None:
        super().__init__(session)
        self._host = host

    def _new_channel(self) -> AwaitableChannel:
        channel = AwaitableChannel(self._session, self._host)
        channel.callback_over()  # there is no callback that would await its operations
        return channel

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call a function on the loop; any thread may call this."""
        self._host.loop.call(callback)

    def add_on_close_callback(self, callback: CloseCallback) -> None:
        """Call a function on the loop, with this connection and the reason, when it is closed."""
        call = partial(self._host.loop.call, callback, self)
        self._session.connection.add_on_close_callback(lambda _connection, reason: call(reason))
