"""A channel over pika's `SelectConnection`.

Messages and settlements are encoded and written in the calling thread and return at once.
Everything else is handed to the I/O thread, which alone touches the pika channel, and waits for the
broker's answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pika.channel
import pika.frame
from pika.exceptions import AMQPError, ChannelClosedByBroker
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import ChannelShutError, MQError, StoppedError
from neon_mq_connector.link.channel_calls import ChannelCalls
from neon_mq_connector.link.encoder import (
    EncodedProperties,
    encode_ack,
    encode_nack,
    encode_publish,
    encode_reject,
)
from neon_mq_connector.link.events import ChannelEvents, RawDelivery, Returned, ignore
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.steps import call_of, status_of
from neon_mq_connector.link.translate import loss_error
from neon_mq_connector.link.transport import StreamTransport
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.topology import QueueStatus, Refusal, Step


class LinkChannel:
    """One generation of a channel: once shut it stays so, and its delivery tags mean nothing.

    Any thread may use it. What waits for the broker raises `ChannelShutError` or
    `ConnectionLostError` when the channel ends first, `WaitTimeoutError` when there is no answer
    within ``timeout`` seconds, and ends early when another thread fails its ``waiter``. Where the
    broker closes the channel, pika's exception is the cause.

    `refusal` is the channel's gate, owned by the transport. It is shut before a frame that closes
    the channel leaves, on either side's behalf.

    Args:
        link: the connection that the channel is on.
        events: where it reports what happens on it.
        transport: of the connection.
        on_shut: called on the I/O thread when it is shut.

    Attributes:
        link: the connection that the channel is on.
        deliveries: where the parser puts messages.
        confirms: where it puts confirms; None as long as the channel is not in confirm mode.
        refusal: why nothing may be sent any more.
    """

    def __init__(
        self,
        link: IOThread,
        events: ChannelEvents,
        transport: StreamTransport,
        *,
        on_shut: Callable[[LinkChannel], object],
    ) -> None:
        self.link = link
        self.deliveries: Callable[[list[RawDelivery]], None] | None = events.deliveries
        self.confirms: Callable[[int, bool, bool], None] | None = None
        self.refusal: MQError | None = None
        self._events = events
        self._transport = transport
        self._frame_max = transport.reader.parser.frame_max
        self._on_shut = on_shut
        self._number = 0
        self._calls = ChannelCalls(link, on_failure=self.closing)
        self._opened = False

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
        return self._calls.error

    # -- any thread: with an answer ------------------------------------------------------------

    def perform(
        self, step: Step, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> QueueStatus:
        """Perform a step on this connection, as those on an exclusive queue have to be.

        Returns:
            The status of the queue, for a declare of one.

        Raises:
            Refusal: the broker said no, and has closed the channel.
        """
        method, arguments = call_of(step)
        try:
            answer = self._calls.call(
                f"{method} {next(iter(arguments.values()))!r}",
                lambda channel, done: getattr(channel, method)(**arguments, callback=done),
                timeout,
                waiter,
            )
        except MQError as error:
            cause = error.__cause__
            if isinstance(cause, ChannelClosedByBroker):
                raise Refusal(cause.reply_code, cause.reply_text) from error
            raise
        return status_of(answer)

    def qos(
        self, prefetch_count: int, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> None:
        """Set how many unacknowledged messages the broker may send ahead, per consumer."""
        self._calls.call(
            f"setting the prefetch to {prefetch_count}",
            lambda channel, done: channel.basic_qos(prefetch_count=prefetch_count, callback=done),
            timeout,
            waiter,
        )

    def consume(
        self,
        queue: str,
        *,
        timeout: float,
        auto_ack: bool = False,
        arguments: Mapping[str, Any] | None = None,
        started: Callable[[str], object] | None = None,
        waiter: Waiter[Any] | None = None,
    ) -> str:
        """Start a consumer; its messages go to the `deliveries` event.

        Args:
            queue: what to consume from.
            timeout: how long to wait for the broker's answer, in seconds.
            auto_ack: whether messages count as acknowledged when they are sent.
            arguments: of the consume, such as ``x-priority``.
            started: called on the I/O thread with the consumer tag, before the first message.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The consumer tag.
        """

        def begin(channel: pika.channel.Channel, done: Callable[[Any], None]) -> None:
            _consume(channel, queue, arguments, started, done, auto_ack)

        frame = self._calls.call(f"consuming from queue {queue!r}", begin, timeout, waiter)
        return str(frame.method.consumer_tag)

    def get(self, queue: str, auto_ack: bool, *, timeout: float) -> tuple[Any, Any, Any]:
        """Take one message from a queue.

        Returns:
            pika's ``(method, properties, body)``, three times None when the queue is empty.
        """
        return self._calls.get(queue, auto_ack, self._events.fetched, timeout)

    def confirm(self, *, timeout: float) -> None:
        """Enter confirm mode: the broker confirms each message that is published from here on."""
        self.confirms = self._events.confirms
        self._calls.call(
            "selecting publisher confirms",
            # confirms do not reach pika
            lambda channel, done: channel.confirm_delivery(ignore, callback=done),
            timeout,
        )

    def wait_for(
        self,
        what: str,
        begin: Callable[[Callable[[Any], None]], object],
        *,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> Any:
        """Call a function on the I/O thread and wait until it reports an answer.

        Args:
            what: what is waited for, for the message of an error.
            begin: called with a function to give the answer to.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.
        """
        return self._calls.call(what, lambda _channel, done: begin(done), timeout, waiter)

    def close(self, *, timeout: float) -> None:
        """Close the channel and wait until it is; the broker requeues what was not settled."""
        waiter: Waiter[None] = Waiter()
        self.closing()
        self.link.submit(lambda: self._close(waiter))
        waiter.wait(timeout, f"{self.link.name}: closing a channel")

    def close_soon(self) -> None:
        """Close the channel without waiting for the broker's answer."""
        if self._calls.error is None:
            self.closing()
            with contextlib.suppress(StoppedError):
                self.link.submit(lambda: self._close(Waiter()))

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
        """Return the frames of a message, for `send` on this channel.

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
        """Send an encoded message; what becomes of it is reported by the events.

        Args:
            frames: what `encode` returned.
            timeout: how long to wait, in seconds, for the broker to take what was sent before; 0
                to send in any case.
            flush: write now; otherwise `flush` has to be called soon.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """
        self._transport.send(frames, self, timeout=timeout, flush=flush)

    def flush(self) -> None:
        """Write what was sent without being written."""
        self._transport.flush()

    def flush_soon(self) -> None:
        """Write it soon, together with what is sent until then."""
        self._transport.flush_soon()

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read what comes on the connection until something is done: see `Reader.read_until`.

        To be called by the only thread that waits for something to come.
        """
        self._transport.read_until(done, deadline)

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._transport.send(encode_ack(self._number, delivery_tag, multiple), self)

    def reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Count a delivery as failed; without requeue the broker dead-letters or drops it."""
        self._transport.send(encode_reject(self._number, delivery_tag, requeue), self)

    def nack(self, delivery_tag: int, *, requeue: bool) -> None:
        """Requeue a delivery; from RabbitMQ 4.3 on that does not count as a failure."""
        self._transport.send(encode_nack(self._number, delivery_tag, False, requeue), self)

    def cancel(self, consumer_tag: str, ended: Callable[[Any], None] | None = None) -> None:
        """Cancel a consumer; messages may come until the broker has answered.

        Args:
            consumer_tag: of the consumer.
            ended: called on the I/O thread with the broker's answer.
        """

        def cancel() -> None:
            self._calls.perform(lambda channel: channel.basic_cancel(consumer_tag, ended or ignore))

        if self.link.is_io_thread:
            cancel()
        else:
            self.link.submit(cancel)

    def closing(self) -> None:
        """Refuse to send from here on: the channel is being closed."""
        if self.refusal is None:
            self._transport.shut(
                self, ChannelShutError(f"{self.link.name}: the channel is being closed")
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
            channel.basic_qos(prefetch_count=prefetch_count, callback=ignore)
            _consume(channel, queue, arguments, started, ignore)

        self._calls.perform(operation)

    def cancel_all(self, ended: Callable[[Any], None] | None = None) -> None:
        """Cancel all consumers.

        Args:
            ended: called when the broker has sent all that it sends for them.
        """

        def operation(channel: pika.channel.Channel) -> None:
            for tag in channel.consumer_tags:
                channel.basic_cancel(tag, ignore)
            # answered after the cancels: pika calls back for all of those at the first answer
            channel.basic_qos(callback=ended or ignore)

        self._calls.perform(operation)

    def open(self, connection: pika.SelectConnection, waiter: Waiter[LinkChannel]) -> None:
        """Ask for the channel; the waiter gets this object once the broker has opened it."""
        self._calls.expect(waiter)

        def opened(_channel: pika.channel.Channel) -> None:
            self._opened = True
            if not self._calls.answered(waiter, self) and not channel.is_closing:
                self.closing()
                channel.close()  # the thread that asked for it waits no more

        try:
            channel = connection.channel(on_open_callback=opened)
        except AMQPError as error:
            self.shut(loss_error(error, what=f"{self.link.name}: a new channel"), error)
            return
        self._calls.use(channel)
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

    def _close(self, waiter: Waiter[None]) -> None:
        if self._calls.error is not None:
            waiter.resolve(None)
            return
        channel = self._calls.channel

        def closed(_channel: pika.channel.Channel, _reason: BaseException) -> None:
            waiter.resolve(None)

        channel.add_on_close_callback(closed)
        if not channel.is_closing:
            channel.close()

    def _on_close(self, _channel: pika.channel.Channel, reason: BaseException) -> None:
        what = f"{self.link.name}: the channel"
        self.shut(loss_error(self._transport.reader.fault or reason, what=what), reason)

    def shut(self, error: MQError, cause: BaseException | None) -> None:
        """Report that the channel is shut, once, and fail what waits for an answer."""
        if self._calls.error is not None:
            return
        error.__cause__ = cause
        self._calls.error = error
        self.closing()
        self.refusal = error
        channels = self._transport.reader.parser.channels
        if channels.get(self._number) is self:
            del channels[self._number]
        self._calls.end(error)
        self._on_shut(self)
        self._events.shut(error)


def _consume(
    channel: pika.channel.Channel,
    queue: str,
    arguments: Mapping[str, Any] | None,
    started: Callable[[str], object] | None,
    done: Callable[[Any], None],
    auto_ack: bool = False,
) -> None:
    def answered(frame: pika.frame.Method[Basic.ConsumeOk]) -> None:
        if started is not None:
            started(frame.method.consumer_tag)
        done(frame)

    channel.basic_consume(
        queue,
        ignore,  # messages do not reach pika
        auto_ack=auto_ack,
        arguments=dict(arguments or {}),
        callback=answered,
    )
