"""aio-pika's message of a delivery, for callbacks that take one; needs the extra ``aio``.

``message.channel`` is the callback's channel with the method names, results and errors of aiormq.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import pika.exceptions as pika_errors
from aio_pika import IncomingMessage
from aiormq import exceptions as aiormq_errors
from aiormq import spec
from aiormq.abc import DeliveredMessage
from pika.spec import BasicProperties

from neon_mq_connector.aio.channel import AwaitableChannel
from neon_mq_connector.link import Delivery

_REFUSALS: dict[int, type[aiormq_errors.ChannelClosed]] = {
    403: aiormq_errors.ChannelAccessRefused,
    404: aiormq_errors.ChannelNotFoundEntity,
    405: aiormq_errors.ChannelLockedResource,
    406: aiormq_errors.ChannelPreconditionFailed,
}
_NO_ROUTE = 312


def _header(properties: BasicProperties) -> Any:
    """Return a content header that has pika's properties under pamqp's names."""
    view = SimpleNamespace(**vars(properties))
    view.message_type = properties.type
    view.timestamp = None if properties.timestamp is None else _as_datetime(properties.timestamp)
    return SimpleNamespace(properties=view)


def _operation(name: str) -> Callable[..., Awaitable[Any]]:
    """Return a method for an operation whose arguments are the same in pika and in aiormq."""

    async def operation(
        self: AiormqChannel,
        *arguments: Any,
        nowait: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        frame = await _asked(timeout, getattr(self.channel, name)(*arguments, **options))
        answer = frame.method  # of pika's class; that of pamqp has the same names
        group, method = answer.NAME.split(".")
        return getattr(getattr(spec, group), method)(**vars(answer))

    operation.__name__ = name
    operation.__doc__ = f"Do what ``{name}`` of aiormq does; refusals are raised as it does."
    return operation


class AiormqChannel:
    """Stand in for the aiormq channel of one message."""

    __slots__ = ("channel",)

    def __init__(self, channel: AwaitableChannel) -> None:
        self.channel = channel

    @property
    def is_closed(self) -> bool:
        """Whether messages of this channel cannot be settled any more."""
        # one that is being stopped is still open for what is running
        return not self.channel.is_attached

    @property
    def connection(self) -> SimpleNamespace:
        """A stand-in for the connection, with what messages ask of it."""
        # `basic_nack`: whether the broker knows that method, as every RabbitMQ does
        return SimpleNamespace(basic_nack=True, is_closed=self.channel.is_closed)

    # -- settling: done by the call ------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False, wait: bool = True) -> Any:
        """Acknowledge; what the callback has published is confirmed before the ack leaves."""
        return self.channel.basic_ack(delivery_tag, multiple)

    def basic_nack(
        self, delivery_tag: int, multiple: bool = False, requeue: bool = True, wait: bool = True
    ) -> Any:
        """Requeue a message, or have the broker drop or dead-letter it."""
        return self.channel.basic_nack(delivery_tag, multiple, requeue)

    def basic_reject(self, delivery_tag: int, *, requeue: bool = True, wait: bool = True) -> Any:
        """Reject a message: requeue it, or have the broker drop or dead-letter it."""
        return self.channel.basic_reject(delivery_tag, requeue)

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
                self.channel.basic_publish(exchange, routing_key, body, sent, mandatory),
            )
        except pika_errors.UnroutableError as error:
            returned = spec.Basic.Return(_NO_ROUTE, "NO_ROUTE", exchange, routing_key)
            message = self._delivered(returned, sent, body)
            raise aiormq_errors.PublishError(message, returned) from error
        except pika_errors.NackError as error:
            raise aiormq_errors.DeliveryError(None, spec.Basic.Nack()) from error
        return spec.Basic.Ack()

    # -- what the broker may refuse ------------------------------------------------------------

    queue_declare = _operation("queue_declare")
    queue_delete = _operation("queue_delete")
    queue_purge = _operation("queue_purge")
    queue_bind = _operation("queue_bind")
    queue_unbind = _operation("queue_unbind")
    exchange_declare = _operation("exchange_declare")
    exchange_delete = _operation("exchange_delete")
    exchange_bind = _operation("exchange_bind")
    exchange_unbind = _operation("exchange_unbind")

    async def basic_get(
        self, queue: str = "", no_ack: bool = False, timeout: float | None = None
    ) -> DeliveredMessage:
        """Take one message from a queue.

        Returns:
            The message; its ``delivery`` is a ``GetEmpty`` when there is none.
        """
        method, properties, body = await _asked(timeout, self.channel.basic_get(queue, no_ack))
        if method is None:
            return self._delivered(spec.Basic.GetEmpty(), None, b"")
        names = ("delivery_tag", "redelivered", "exchange", "routing_key", "message_count")
        got = spec.Basic.GetOk(*(getattr(method, name) for name in names))
        return self._delivered(got, properties, body)

    def _delivered(self, delivery: Any, properties: Any, body: bytes) -> DeliveredMessage:
        header = _header(properties or BasicProperties())
        return DeliveredMessage(delivery, header, body, cast("Any", self))


def make_message(channel: AwaitableChannel, delivery: Delivery) -> IncomingMessage:
    """Make the message of a delivery.

    It may be settled in every mode: where the library acknowledges, that does nothing. An
    ``expiration`` or ``delivery_mode`` that makes no sense is left out.
    """
    method, properties, body = delivery
    header = _header(properties)
    # what aiormq's `DeliveredMessage` has, with less effort
    delivered: Any = SimpleNamespace(
        body=body,
        channel=AiormqChannel(channel),
        consumer_tag=method.consumer_tag,
        delivery_tag=method.delivery_tag,
        exchange=method.exchange,
        header=header,
        message_count=None,
        redelivered=method.redelivered,
        routing_key=method.routing_key,
    )
    try:
        return IncomingMessage(delivered)
    except (ValueError, TypeError):
        view = header.properties
        view.expiration = _number_or_none(view.expiration)
        view.delivery_mode = view.delivery_mode if view.delivery_mode in (1, 2) else None
        return IncomingMessage(delivered)


async def _asked(timeout: float | None, operation: Awaitable[Any]) -> Any:
    """Await an operation; a refusal of the broker is raised as aiormq raises it."""
    try:
        return await (operation if timeout is None else asyncio.wait_for(operation, timeout))
    except pika_errors.ChannelClosedByBroker as error:
        kind = _REFUSALS.get(error.reply_code)
        if kind is not None:
            raise kind(error.reply_text) from error
        raise aiormq_errors.ChannelClosed(error.reply_code, error.reply_text) from error


def _as_datetime(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, OSError, ValueError):  # any sender can write any number there
        return None


def _as_pika(properties: spec.Basic.Properties | None) -> BasicProperties | None:
    if properties is None:
        return None
    named = dict(properties)
    named["type"] = named.pop("message_type")
    named["cluster_id"] = properties.cluster_id or None
    if properties.timestamp is not None:
        named["timestamp"] = int(properties.timestamp.timestamp())
    return BasicProperties(**named)


def _number_or_none(text: Any) -> str | None:
    try:
        float(text)
    except (TypeError, ValueError):
        return None
    return str(text)
