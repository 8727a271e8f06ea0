"""A callback's channel under the names and with the answers of aiormq, for `message.channel`.

It is what aio-pika's messages settle on. Everything is done by the channel underneath.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

import pika.exceptions as pika_errors
from aiormq import exceptions as aiormq_errors
from aiormq import spec
from aiormq.abc import DeliveredMessage
from pika.spec import BasicProperties

from neon_mq_connector.aio.operation import Done

if TYPE_CHECKING:
    from neon_mq_connector.aio.channel import AwaitableChannel

_REFUSALS: dict[int, type[aiormq_errors.ChannelClosed]] = {
    403: aiormq_errors.ChannelAccessRefused,
    404: aiormq_errors.ChannelNotFoundEntity,
    405: aiormq_errors.ChannelLockedResource,
    406: aiormq_errors.ChannelPreconditionFailed,
}
_NO_ROUTE = 312


class PropertiesView:
    """pika's properties under the names that pamqp has for them."""

    __slots__ = (
        "app_id",
        "cluster_id",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_mode",
        "expiration",
        "headers",
        "message_id",
        "message_type",
        "priority",
        "reply_to",
        "timestamp",
        "user_id",
    )

    def __init__(self, properties: BasicProperties) -> None:
        self.app_id = properties.app_id
        self.cluster_id = properties.cluster_id
        self.content_encoding = properties.content_encoding
        self.content_type = properties.content_type
        self.correlation_id = properties.correlation_id
        self.delivery_mode = properties.delivery_mode
        self.expiration = properties.expiration
        self.headers = properties.headers
        self.message_id = properties.message_id
        self.message_type = properties.type
        self.priority = properties.priority
        self.reply_to = properties.reply_to
        self.user_id = properties.user_id
        seconds = properties.timestamp
        self.timestamp = None if seconds is None else _as_datetime(seconds)


class Header:
    """A content header, as far as a message is made from it."""

    __slots__ = ("properties",)

    def __init__(self, properties: BasicProperties) -> None:
        self.properties = PropertiesView(properties)


class AiormqConnection:
    """The connection of such a channel, as far as messages ask for it."""

    __slots__ = ("_channel",)

    #: Whether the broker knows ``basic.nack``: every RabbitMQ does.
    basic_nack = True

    def __init__(self, channel: AwaitableChannel) -> None:
        self._channel = channel

    @property
    def is_closed(self) -> bool:
        """Whether the consumer is detached."""
        return self._channel.is_closed

    @property
    def is_opened(self) -> bool:
        """Whether the consumer is attached."""
        return self._channel.is_open


class AiormqChannel:
    """Stand in for the aiormq channel of one message.

    Args:
        channel: what does the work.
    """

    __slots__ = ("_channel",)

    def __init__(self, channel: AwaitableChannel) -> None:
        self._channel = channel

    @property
    def is_closed(self) -> bool:
        """Whether messages of this channel cannot be settled any more."""
        # one that is being stopped is still open for what is running
        return not self._channel.is_attached

    @property
    def number(self) -> int:
        """The number of the generation; AMQP's own number is the library's business."""
        return self._channel.channel_number

    @property
    def connection(self) -> AiormqConnection:
        """A stand-in for the connection."""
        return AiormqConnection(self._channel)

    # -- settling: done by the call ------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False, wait: bool = True) -> Done:
        """Acknowledge; what the callback has published is confirmed before the ack leaves."""
        return self._channel.basic_ack(delivery_tag, multiple)

    def basic_nack(
        self, delivery_tag: int, multiple: bool = False, requeue: bool = True, wait: bool = True
    ) -> Done:
        """Give a message back, or have it dropped or dead-lettered."""
        return self._channel.basic_nack(delivery_tag, multiple, requeue)

    def basic_reject(self, delivery_tag: int, *, requeue: bool = True, wait: bool = True) -> Done:
        """Fail a message: back to its queue, or dropped or dead-lettered."""
        return self._channel.basic_reject(delivery_tag, requeue)

    # -- publishing ----------------------------------------------------------------------------

    async def basic_publish(
        self,
        body: bytes,
        *,
        exchange: str = "",
        routing_key: str = "",
        properties: spec.Basic.Properties | None = None,
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        wait: bool = True,
    ) -> spec.Basic.Ack:
        """Publish and wait for the broker's confirm.

        Raises:
            aiormq.exceptions.PublishError: no queue takes it.
            aiormq.exceptions.DeliveryError: the broker would not take it.
            aiormq.exceptions.ChannelClosed: there is no such exchange, or it may not be used.
            PublishError: there is no confirm.
        """
        sent = _as_pika(properties)
        try:
            await _asked(
                timeout,
                self._channel.basic_publish(exchange, routing_key, body, sent, mandatory),
            )
        except pika_errors.UnroutableError as error:
            returned = spec.Basic.Return(_NO_ROUTE, "NO_ROUTE", exchange, routing_key)
            message = self._delivered(returned, sent, body)
            raise aiormq_errors.PublishError(message, returned) from error
        except pika_errors.NackError as error:
            raise aiormq_errors.DeliveryError(None, spec.Basic.Nack()) from error
        return spec.Basic.Ack()

    async def confirm_delivery(
        self, nowait: bool = False, timeout: float | None = None
    ) -> spec.Confirm.SelectOk:
        """Do nothing: every publish is confirmed."""
        return spec.Confirm.SelectOk()

    # -- what the broker may refuse ------------------------------------------------------------

    async def queue_declare(
        self,
        queue: str = "",
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Queue.DeclareOk:
        """Declare a queue; one that exists with other properties is used as it is.

        Raises:
            aiormq.exceptions.ChannelClosed: the broker refused.
        """
        frame = await _asked(
            timeout,
            self._channel.queue_declare(
                queue, passive, durable, exclusive, auto_delete, dict(arguments or {}) or None
            ),
        )
        method = frame.method
        return spec.Queue.DeclareOk(method.queue, method.message_count, method.consumer_count)

    async def queue_delete(
        self,
        queue: str = "",
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
        timeout: float | None = None,
    ) -> spec.Queue.DeleteOk:
        """Delete a queue."""
        frame = await _asked(timeout, self._channel.queue_delete(queue, if_unused, if_empty))
        return spec.Queue.DeleteOk(frame.method.message_count)

    async def queue_purge(
        self, queue: str = "", nowait: bool = False, timeout: float | None = None
    ) -> spec.Queue.PurgeOk:
        """Remove the ready messages of a queue."""
        frame = await _asked(timeout, self._channel.queue_purge(queue))
        return spec.Queue.PurgeOk(frame.method.message_count)

    async def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Queue.BindOk:
        """Bind a queue to an exchange."""
        await _asked(
            timeout, self._channel.queue_bind(queue, exchange, routing_key, _table(arguments))
        )
        return spec.Queue.BindOk()

    async def queue_unbind(
        self,
        queue: str = "",
        exchange: str = "",
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Queue.UnbindOk:
        """Unbind a queue from an exchange."""
        await _asked(
            timeout, self._channel.queue_unbind(queue, exchange, routing_key, _table(arguments))
        )
        return spec.Queue.UnbindOk()

    async def exchange_declare(
        self,
        exchange: str = "",
        *,
        exchange_type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Exchange.DeclareOk:
        """Declare an exchange."""
        await _asked(
            timeout,
            self._channel.exchange_declare(
                exchange,
                exchange_type,
                passive,
                durable,
                auto_delete,
                internal,
                arguments=_table(arguments),
            ),
        )
        return spec.Exchange.DeclareOk()

    async def exchange_delete(
        self,
        exchange: str = "",
        *,
        if_unused: bool = False,
        nowait: bool = False,
        timeout: float | None = None,
    ) -> spec.Exchange.DeleteOk:
        """Delete an exchange."""
        await _asked(timeout, self._channel.exchange_delete(exchange, if_unused))
        return spec.Exchange.DeleteOk()

    async def exchange_bind(
        self,
        destination: str = "",
        source: str = "",
        routing_key: str = "",
        *,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Exchange.BindOk:
        """Bind an exchange to another."""
        await _asked(
            timeout,
            self._channel.exchange_bind(destination, source, routing_key, _table(arguments)),
        )
        return spec.Exchange.BindOk()

    async def exchange_unbind(
        self,
        destination: str = "",
        source: str = "",
        routing_key: str = "",
        *,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> spec.Exchange.UnbindOk:
        """Unbind an exchange from another."""
        await _asked(
            timeout,
            self._channel.exchange_unbind(destination, source, routing_key, _table(arguments)),
        )
        return spec.Exchange.UnbindOk()

    # -- consuming -----------------------------------------------------------------------------

    async def basic_get(
        self, queue: str = "", no_ack: bool = False, timeout: float | None = None
    ) -> DeliveredMessage:
        """Take one message from a queue.

        Returns:
            The message; its ``delivery`` is a ``GetEmpty`` when there is none.
        """
        method, properties, body = await _asked(timeout, self._channel.basic_get(queue, no_ack))
        delivery: spec.Basic.GetOk | spec.Basic.GetEmpty = spec.Basic.GetEmpty()
        if method is not None:
            delivery = spec.Basic.GetOk(
                method.delivery_tag,
                method.redelivered,
                method.exchange,
                method.routing_key,
                method.message_count,
            )
        return self._delivered(delivery, properties, body or b"")

    def _delivered(
        self, delivery: Any, properties: BasicProperties | None, body: bytes
    ) -> DeliveredMessage:
        header: Any = Header(properties or BasicProperties())
        channel: Any = self
        return DeliveredMessage(delivery, header, body, channel)

    async def basic_qos(
        self,
        *,
        prefetch_size: int | None = None,
        prefetch_count: int | None = None,
        global_: bool = False,
        timeout: float | None = None,
    ) -> spec.Basic.QosOk:
        """Change how many messages the broker sends ahead to this consumer."""
        await _asked(timeout, self._channel.basic_qos(prefetch_count=prefetch_count or 0))
        return spec.Basic.QosOk()

    async def basic_cancel(
        self, consumer_tag: str, *, nowait: bool = False, timeout: float | None = None
    ) -> spec.Basic.CancelOk:
        """Stop this consumer."""
        await self._channel.basic_cancel(consumer_tag)
        return spec.Basic.CancelOk(consumer_tag)

    async def close(self, exc: Any = None) -> None:
        """Stop this consumer; other consumers are not disturbed."""
        await self._channel.close()

    async def basic_consume(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a consumer is registered with the connector, which then watches over it."""
        self._channel.basic_consume()


async def _within(timeout: float | None, operation: Awaitable[Any]) -> Any:
    if timeout is None:
        return await operation
    return await asyncio.wait_for(operation, timeout)


async def _asked(timeout: float | None, operation: Awaitable[Any]) -> Any:
    """Wait for what the broker may refuse."""
    try:
        return await _within(timeout, operation)
    except pika_errors.ChannelClosedByBroker as error:
        kind = _REFUSALS.get(error.reply_code)
        if kind is not None:
            raise kind(error.reply_text) from error
        raise aiormq_errors.ChannelClosed(error.reply_code, error.reply_text) from error


def _table(arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if arguments is None else dict(arguments)


def _as_datetime(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, OSError, ValueError):  # any sender can write any number there
        return None


def _as_pika(properties: spec.Basic.Properties | None) -> BasicProperties | None:
    if properties is None:
        return None
    timestamp = properties.timestamp
    return BasicProperties(
        app_id=properties.app_id,
        cluster_id=properties.cluster_id or None,
        content_encoding=properties.content_encoding,
        content_type=properties.content_type,
        correlation_id=properties.correlation_id,
        delivery_mode=properties.delivery_mode,
        expiration=properties.expiration,
        headers=properties.headers,
        message_id=properties.message_id,
        priority=properties.priority,
        reply_to=properties.reply_to,
        timestamp=None if timestamp is None else int(timestamp.timestamp()),
        type=properties.message_type,
        user_id=properties.user_id,
    )
