"""A channel over pika's `SelectConnection`.

Messages and settlements are encoded and written in the calling thread and return at once.
Everything else is handed to the I/O thread, which alone touches the pika channel, and waits for the
broker's answer.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pika.channel
from pika.exceptions import AMQPError, ChannelWrongStateError
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import ChannelShutError, MQError, StoppedError
from neon_mq_connector.link.channel_calls import ChannelCalls, ChannelEvents, ignore
from neon_mq_connector.link.encoder import encode_publish, encode_settlement
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.parser import RawDelivery
from neon_mq_connector.link.properties import EncodedProperties
from neon_mq_connector.link.translate import loss_error
from neon_mq_connector.link.transport import StreamTransport
from neon_mq_connector.link.waiter import Answer, Waiter

LOG = logging.getLogger("neon_mq_connector.link")

_ACK, _NACK, _REJECT = Basic.Ack.INDEX, Basic.Nack.INDEX, Basic.Reject.INDEX


class LinkChannel(ChannelCalls):
    """One generation of a channel: once shut it stays so, and its delivery tags mean nothing.

    Any thread may use it. `refusal` is the channel's gate, owned by the transport. It is shut
    before a frame that closes the channel leaves, on either side's behalf.

    Args:
        link: the connection that the channel is on.
        events: where it reports what happens on it.
        transport: of the connection.
        on_shut: called on the I/O thread when it is shut.

    Attributes:
        deliveries: where the parser puts messages.
        refusal: why nothing may be sent any more.
        read_until: reads what comes on the connection, in place of the I/O thread, until something
            is done; for the only thread that waits for something to come. See `Reader.read_until`.
        wake_reader: lets a thread that does so look whether that is done.
    """

    def __init__(
        self,
        link: IOThread,
        events: ChannelEvents,
        transport: StreamTransport,
        *,
        on_shut: Callable[[LinkChannel], object],
    ) -> None:
        super().__init__(link, events)
        self.deliveries: Callable[[list[RawDelivery]], None] | None = events.deliveries
        self.refusal: MQError | None = None
        self.read_until = transport.reader.read_until
        self.wake_reader = transport.reader.wake
        self._transport = transport
        self._frame_max = transport.reader.parser.frame_max
        self._on_shut = on_shut
        self._number = 0
        self._opened = False

    # -- any thread ----------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the broker has opened the channel and it is not shut."""
        return self._opened and self.refusal is None

    @property
    def is_writable(self) -> bool:
        """Whether `send` need not wait for the broker to take what was sent before."""
        return self._transport.has_room

    def close(self, *, timeout: float) -> None:
        """Close the channel and wait until it is; the broker requeues what was not settled."""
        waiter: Waiter[None] = Waiter()

        def closed(*_: object) -> None:
            waiter.resolve(None)

        self.closing()
        self.link.submit(lambda: self._close(closed))
        waiter.wait(timeout, f"{self.link.name}: closing a channel")

    def close_soon(self) -> None:
        """Close the channel without waiting for the broker's answer."""
        self.closing()
        with contextlib.suppress(StoppedError):
            self.link.submit(lambda: self._close(ignore))

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

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._transport.send(encode_settlement(self._number, _ACK, delivery_tag, multiple), self)

    def reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Count a delivery as failed; without requeue the broker dead-letters or drops it."""
        self._transport.send(encode_settlement(self._number, _REJECT, delivery_tag, requeue), self)

    def nack(self, delivery_tag: int, *, requeue: bool, multiple: bool = False) -> None:
        """Requeue a delivery, or all up to it; from RabbitMQ 4.3 on that is not a failure.

        Without requeue they are rejected. With multiple and tag 0 all deliveries are meant.
        """
        flags = multiple + 2 * requeue
        self._transport.send(encode_settlement(self._number, _NACK, delivery_tag, flags), self)

    def cancel(self, consumer_tag: str, ended: Callable[[Any], None] = ignore) -> None:
        """Cancel a consumer; messages may come until `ended` gets the answer, on the I/O thread."""
        cancel = partial(self._perform, lambda: self._pika.basic_cancel(consumer_tag, ended))
        if self.link.is_io_thread:
            cancel()
        else:
            self.link.submit(cancel)

    def closing(self) -> None:
        """Refuse to send from here on: the channel is being closed."""
        refusal = ChannelShutError(f"{self.link.name}: the channel is being closed")
        self._transport.shut(self, refusal)

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

        `started` gets the consumer tag, before the first message.
        """
        self._perform(lambda: self._consume(queue, prefetch_count, False, arguments, started))

    def cancel_all(self, ended: Callable[[Any], None] = ignore) -> None:
        """Cancel all consumers; `ended` is called when no message for them is to come."""

        def operation() -> None:
            for tag in self._pika.consumer_tags:
                self._pika.basic_cancel(tag, ignore)
            # answered after the cancels: pika calls back for all of those at the first answer
            self._pika.basic_qos(callback=ended)

        self._perform(operation)

    def open(self, connection: pika.SelectConnection, waiter: Answer[LinkChannel]) -> None:
        """Ask for the channel; the waiter gets this object once the broker has opened it."""
        self._waiters.add(waiter)

        def opened(channel: pika.channel.Channel) -> None:
            self._opened = True
            if not self._answer(waiter, self) and not channel.is_closing:
                self.closing()
                channel.close()  # the thread that asked for it waits no more

        try:
            self._pika = channel = connection.channel(on_open_callback=opened)
        except AMQPError as error:
            self.shut(loss_error(error, what=f"{self.link.name}: a new channel"), error)
            return
        self._number = channel.channel_number
        self._transport.reader.parser.channels[self._number] = self
        channel.add_on_close_callback(self._on_close)
        channel.add_callback(
            lambda _frame: self._end_get(None, None, None), [Basic.GetEmpty], one_shot=False
        )
        channel.add_on_cancel_callback(
            lambda frame: self._events.cancelled(frame.method.consumer_tag)
        )
        channel.add_on_return_callback(lambda _channel, *returned: self._events.returned(*returned))

    def _close(self, closed: Callable[..., None]) -> None:
        if self.error is not None:
            closed()
            return
        self._pika.add_on_close_callback(closed)
        if not self._pika.is_closing:
            self._pika.close()

    def _perform(self, operation: Callable[[], object]) -> None:
        """Run an operation whose answer nothing waits for."""
        if self.error is not None:
            return  # the shut event has told, or will tell, everything that waits
        try:
            operation()
        except ChannelWrongStateError:
            return  # closing: the shut event follows
        except Exception:
            # it is not known what was done
            LOG.exception("%s: an operation failed, the channel is closed", self.link.name)
            self.closing()
            self._pika.close()

    def _on_close(self, _channel: pika.channel.Channel, reason: BaseException) -> None:
        what = f"{self.link.name}: the channel"
        self.shut(loss_error(self._transport.reader.fault or reason, what=what), reason)

    def shut(self, error: MQError, cause: BaseException | None) -> None:
        """Report that the channel is shut, once, and fail what waits for an answer."""
        if self.error is not None:
            return
        error.__cause__ = cause
        self.error = error
        self.closing()
        self.refusal = error
        channels = self._transport.reader.parser.channels
        if channels.get(self._number) is self:
            del channels[self._number]
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.fail(error)
        self._on_shut(self)
        self._events.shut(error)
