"""A channel on a link over pika's `SelectConnection`.

Any thread may call its methods. Messages and settlements are encoded and written in the calling
thread and return at once. Everything else is handed to the I/O thread, which alone touches the pika
channel, and waits for the broker's answer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pika.channel
import pika.frame
from pika.exceptions import AMQPError, ChannelWrongStateError
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import ChannelShutError, MQError, StoppedError, WaitTimeoutError
from neon_mq_connector.link.encoder import (
    EncodedProperties,
    encode_ack,
    encode_nack,
    encode_publish,
    encode_reject,
)
from neon_mq_connector.link.interface import ChannelEvents, RawDelivery, Returned
from neon_mq_connector.link.translate import loss_error
from neon_mq_connector.link.waiter import Waiter

LOG = logging.getLogger("neon_mq_connector.link")

if TYPE_CHECKING:
    from neon_mq_connector.link.select_link import SelectLink
    from neon_mq_connector.link.transport import StreamTransport

#: A call of a pika channel method that reports its answer to the second argument.
Step = Callable[[pika.channel.Channel, Callable[[Any], None]], object]


class SelectChannel:
    """One generation of a channel: once shut it stays so, and its delivery tags mean nothing.

    Owned by the I/O thread: the pika channel and the waiters. `_error` is written once, by the I/O
    thread, and read by any. `refusal` is the channel's gate: the transport owns it. It is shut
    before a frame that closes the channel leaves, whoever closes it.

    Attributes:
        deliveries: where the parser puts messages.
        confirms: where it puts confirms; None as long as the channel is not in confirm mode.
        refusal: why nothing may be sent any more.
    """

    def __init__(
        self, link: SelectLink, events: ChannelEvents, transport: StreamTransport, frame_max: int
    ) -> None:
        self.deliveries: Callable[[list[RawDelivery]], None] | None = events.deliveries
        self.confirms: Callable[[int, bool, bool], None] | None = None
        self.refusal: MQError | None = None
        self._link = link
        self._events = events
        self._transport = transport
        self._frame_max = frame_max
        self._number = 0
        self._channel: pika.channel.Channel | None = None
        self._waiters: set[Waiter[Any]] = set()
        self._error: MQError | None = None
        self._opened = False
        self._getting = threading.RLock()
        self._got: Callable[[Any], None] | None = None
        self._hears_of_empty = False

    @property
    def link(self) -> SelectLink:
        """The connection that the channel is on."""
        return self._link

    @property
    def is_open(self) -> bool:
        """Whether the broker has opened the channel and it is not shut."""
        return self._opened and self.refusal is None

    @property
    def is_writable(self) -> bool:
        """Whether `send` need not wait for the broker to take what was sent before."""
        return self._transport.has_room

    @property
    def error(self) -> MQError | None:
        """Why the channel is shut; None while it is not."""
        return self._error

    # -- any thread: with an answer ------------------------------------------------------------

    def call(
        self, what: str, step: Step, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> Any:
        """Run a pika channel method on the I/O thread and wait for its answer.

        Args:
            what: what is done, for the message of an error.
            step: called with the pika channel and a function to give the answer to.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The answer: for most methods pika's method frame.

        Raises:
            ChannelShutError, ConnectionLostError: the channel ended first.
            WaitTimeoutError: no answer in time.
        """
        waiter = waiter or Waiter()
        self._link.submit(lambda: self._begin(step, waiter))
        return waiter.wait(timeout, f"{self._link.name}: {what}")

    def qos(
        self, prefetch_count: int, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> None:
        """Set how many unacknowledged messages the broker may send ahead, per consumer."""
        self.call(
            f"setting the prefetch to {prefetch_count}",
            lambda channel, done: channel.basic_qos(prefetch_count=prefetch_count, callback=done),
            timeout=timeout,
            waiter=waiter,
        )

    def consume(
        self,
        queue: str,
        *,
        timeout: float,
        auto_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
        started: Callable[[str], object] | None = None,
        waiter: Waiter[Any] | None = None,
    ) -> str:
        """Start a consumer; its messages go to the `deliveries` event.

        Args:
            queue: what to consume from.
            timeout: how long to wait for the broker's answer, in seconds.
            auto_ack: whether messages count as acknowledged when they are sent.
            exclusive: whether nobody else may consume from the queue.
            arguments: of the consume, such as ``x-priority``.
            started: called on the I/O thread with the consumer tag, before the first message.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The consumer tag.
        """

        def step(channel: pika.channel.Channel, done: Callable[[Any], None]) -> None:
            _consume(channel, queue, arguments, started, done, auto_ack, exclusive)

        frame: pika.frame.Method[Basic.ConsumeOk] = self.call(
            f"consuming from queue {queue!r}", step, timeout=timeout, waiter=waiter
        )
        return str(frame.method.consumer_tag)

    def get(self, queue: str, auto_ack: bool, *, timeout: float) -> tuple[Any, Any, Any]:
        """Take one message from a queue.

        Returns:
            pika's ``(method, properties, body)``, three times None when the queue is empty.
        """

        def step(channel: pika.channel.Channel, done: Callable[[Any], None]) -> None:
            self._got = done
            if not self._hears_of_empty:
                self._hears_of_empty = True
                channel.add_callback(
                    lambda _frame: self._end_get(None, None, None), [Basic.GetEmpty], False
                )

            def got(_channel: object, method: Basic.GetOk, properties: Any, body: bytes) -> None:
                if not auto_ack and method.delivery_tag is not None:
                    self._events.fetched(method.delivery_tag)
                self._end_get(method, properties, body)

            channel.basic_get(queue, got, auto_ack=auto_ack)

        # AMQP has no name for a get: one at a time
        try:
            if not self._getting.acquire(timeout=timeout):
                raise WaitTimeoutError(f"get from queue {queue!r}: another is not answered in time")
            answer: tuple[Any, Any, Any] = self.call(
                f"get from queue {queue!r}", step, timeout=timeout
            )
            return answer
        finally:
            try:  # noqa: SIM105 - an exception may have come before it was taken, or right after
                self._getting.release()
            except RuntimeError:
                pass

    def confirm(self, *, timeout: float) -> None:
        """Have the broker confirm each message published from here on."""
        self.confirms = self._events.confirms
        self.call(
            "selecting publisher confirms",
            # confirms do not reach pika
            lambda channel, done: channel.confirm_delivery(lambda _frame: None, callback=done),
            timeout=timeout,
        )

    def close(self, *, timeout: float) -> None:
        """Close the channel and wait until it is; the broker takes back what was not settled."""
        waiter: Waiter[None] = Waiter()
        self._shut_gate()
        self._link.submit(lambda: self._close(waiter))
        waiter.wait(timeout, f"{self._link.name}: closing a channel")

    def close_soon(self) -> None:
        """Close the channel without waiting for the broker's answer."""
        if self._error is None:
            self._shut_gate()
            with contextlib.suppress(StoppedError):
                self._link.submit(lambda: self._close(Waiter()))

    # -- any thread: without an answer ---------------------------------------------------------

    def encode(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | EncodedProperties,
        *,
        mandatory: bool = False,
    ) -> bytes:
        """Make the frames of a message, for `send` on this channel.

        Raises:
            pika.exceptions.AMQPError, ValueError: a name or a property cannot be put on the wire.
        """
        return encode_publish(
            self._number,
            exchange,
            routing_key,
            properties,
            body,
            mandatory=mandatory,
            frame_max=self._frame_max,
        )

    def send(self, frames: bytes, *, timeout: float = 0.0, flush: bool = True) -> None:
        """Send a message that was encoded; what becomes of it is told by the events.

        Args:
            frames: what `encode` made.
            timeout: how long to wait, in seconds, for the broker to take what was sent before; 0
                to send in any case.
            flush: write now; otherwise `flush` has to be called soon.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """
        self._transport.send(frames, self, timeout=timeout, flush=flush)

    def lead(self, done: Callable[[], object], deadline: float) -> None:
        """Read what comes on this connection, until something is done, as `StreamTransport.lead`.

        To be called by the only thread that waits for something to come.
        """
        self._transport.lead(done, deadline)

    def flush(self) -> None:
        """Write what was sent without being written."""
        self._transport.flush()

    def flush_soon(self) -> None:
        """Have it written soon, together with what is sent until then."""
        self._transport.flush_soon()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | EncodedProperties,
        *,
        mandatory: bool = False,
        timeout: float = 0.0,
    ) -> None:
        """Encode a message and send it; raises as these two do."""
        frames = self.encode(exchange, routing_key, body, properties, mandatory=mandatory)
        self._transport.send(frames, self, timeout=timeout)

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._transport.send(encode_ack(self._number, delivery_tag, multiple), self)

    def reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Count a delivery as failed; without requeue the broker dead-letters or drops it."""
        self._transport.send(encode_reject(self._number, delivery_tag, requeue), self)

    def nack(self, delivery_tag: int, *, requeue: bool) -> None:
        """Give a delivery back (requeue); from RabbitMQ 4.3 on it does not count as a failure."""
        self._transport.send(encode_nack(self._number, delivery_tag, False, requeue), self)

    def cancel(self, consumer_tag: str, ended: Callable[[Any], None] | None = None) -> None:
        """End a consumer; messages may come until the broker has answered.

        Args:
            consumer_tag: of the consumer.
            ended: called on the I/O thread with the broker's answer.
        """

        def cancel() -> None:
            self._perform(lambda channel: channel.basic_cancel(consumer_tag, ended or _ignore))

        if self._link.is_io_thread:
            cancel()
        else:
            self._link.submit(cancel)

    def closing(self) -> None:
        """Take note that the broker closes the channel; called on the I/O thread."""
        self._shut_gate()

    def _shut_gate(self) -> None:
        if self.refusal is None:
            self._transport.shut(
                self, ChannelShutError(f"{self._link.name}: the channel is being closed")
            )

    # -- I/O thread ----------------------------------------------------------------------------

    def add_consumer(
        self,
        queue: str,
        prefetch_count: int,
        *,
        arguments: Mapping[str, Any],
        started: Callable[[str], object],
    ) -> None:
        """Start another consumer, with a prefetch count of its own; a refusal closes the channel.

        Args:
            queue: what to consume from.
            prefetch_count: how many unacknowledged messages the broker may send to this consumer.
            arguments: of the consume.
            started: called with the consumer tag, before the first message.
        """

        def operation(channel: pika.channel.Channel) -> None:
            channel.basic_qos(prefetch_count=prefetch_count, callback=_ignore)
            _consume(channel, queue, arguments, started, _ignore)

        self._perform(operation)

    def cancel_all(self, ended: Callable[[Any], None] | None = None) -> None:
        """End all consumers.

        Args:
            ended: called when the broker has sent all that it sends for them.
        """

        def operation(channel: pika.channel.Channel) -> None:
            for tag in channel.consumer_tags:
                channel.basic_cancel(tag, _ignore)
            # answered after the cancels: pika calls back for all of those at the first answer
            channel.basic_qos(callback=ended or _ignore)

        self._perform(operation)

    def _open(self, connection: pika.SelectConnection, waiter: Waiter[SelectChannel]) -> None:
        """Ask for the channel; the waiter gets this object once the broker has opened it."""
        self._waiters.add(waiter)

        def opened(_channel: pika.channel.Channel) -> None:
            self._opened = True
            self._waiters.discard(waiter)
            if not waiter.resolve(self) and not channel.is_closing:
                self._shut_gate()
                channel.close()  # whoever asked for it no longer waits

        try:
            channel = connection.channel(on_open_callback=opened)
        except AMQPError as error:
            self._shut(loss_error(error, what=f"{self._link.name}: a new channel"), error)
            return
        self._channel = channel
        self._number = channel.channel_number
        self._transport.reader.parser.channels[self._number] = self
        channel.add_on_close_callback(self._on_close)
        channel.add_on_cancel_callback(
            lambda frame: self._events.cancelled(frame.method.consumer_tag)
        )
        channel.add_on_return_callback(
            lambda _channel, method, properties, body: self._events.returned(
                Returned(method, properties, body)
            )
        )

    def _end_get(self, method: Any, properties: Any, body: Any) -> None:
        got, self._got = self._got, None
        if got is not None:
            got((method, properties, body))

    def _begin(self, step: Step, waiter: Waiter[Any]) -> None:
        if self._error is not None:
            waiter.fail(self._error)
            return
        self._waiters.add(waiter)

        def done(answer: Any) -> None:
            self._waiters.discard(waiter)
            waiter.resolve(answer)

        try:
            step(self._pika_channel(), done)
        except Exception as error:  # what pika refuses belongs to the caller, not to this thread
            self._waiters.discard(waiter)
            waiter.fail(error)

    def _perform(self, operation: Callable[[pika.channel.Channel], object]) -> None:
        if self._error is not None:
            return  # the shut event has told, or will tell, everybody who waits
        try:
            operation(self._pika_channel())
        except ChannelWrongStateError:
            return  # closing: the shut event follows
        except Exception:
            # what was counted was not done: the books of this channel are no longer true
            LOG.exception("%s: an operation failed, the channel is closed", self._link.name)
            self._shut_gate()
            self._pika_channel().close()

    def _close(self, waiter: Waiter[None]) -> None:
        if self._error is not None:
            waiter.resolve(None)
            return
        channel = self._pika_channel()

        def closed(_channel: pika.channel.Channel, _reason: BaseException) -> None:
            waiter.resolve(None)

        channel.add_on_close_callback(closed)
        if not channel.is_closing:
            channel.close()

    def _pika_channel(self) -> pika.channel.Channel:
        if self._channel is None:
            raise ChannelShutError(f"{self._link.name}: the channel was never opened")
        return self._channel

    def _on_close(self, _channel: pika.channel.Channel, reason: BaseException) -> None:
        what = f"{self._link.name}: the channel"
        self._shut(loss_error(self._transport.reader.fault or reason, what=what), reason)

    def _shut(self, error: MQError, cause: BaseException) -> None:
        if self._error is not None:
            return
        error.__cause__ = cause
        self._error = error
        self._shut_gate()
        self.refusal = error
        channels = self._transport.reader.parser.channels
        if channels.get(self._number) is self:
            del channels[self._number]
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.fail(error)
        self._link._forget(self)
        self._events.shut(error)


def _consume(
    channel: pika.channel.Channel,
    queue: str,
    arguments: Mapping[str, Any] | None,
    started: Callable[[str], object] | None,
    done: Callable[[Any], None],
    auto_ack: bool = False,
    exclusive: bool = False,
) -> None:
    def answered(frame: pika.frame.Method[Basic.ConsumeOk]) -> None:
        if started is not None:
            started(frame.method.consumer_tag)
        done(frame)

    channel.basic_consume(
        queue,
        _ignore,  # messages do not reach pika
        auto_ack=auto_ack,
        exclusive=exclusive,
        arguments=dict(arguments or {}),
        callback=answered,
    )


def _ignore(*_: object) -> None:
    """Take an answer that nobody waits for."""
