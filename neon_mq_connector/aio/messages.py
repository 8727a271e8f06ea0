"""aio-pika's message of a delivery, for callbacks that take one; needs the extra ``aio``."""

from __future__ import annotations

from typing import Any

from aio_pika import IncomingMessage

from neon_mq_connector.aio.aiormq_channel import AiormqChannel, Header
from neon_mq_connector.aio.channel import AwaitableChannel
from neon_mq_connector.link import Delivery


class _Delivered:
    """What an `IncomingMessage` is made from: aiormq's `DeliveredMessage`, with less effort."""

    __slots__ = (
        "body",
        "channel",
        "consumer_tag",
        "delivery_tag",
        "exchange",
        "header",
        "message_count",
        "redelivered",
        "routing_key",
    )

    def __init__(self, channel: AwaitableChannel, delivery: Delivery) -> None:
        method, properties, body = delivery
        self.body = body
        self.channel = AiormqChannel(channel)
        self.consumer_tag = method.consumer_tag
        self.delivery_tag = method.delivery_tag
        self.exchange = method.exchange
        self.header = Header(properties)
        self.message_count = None
        self.redelivered = method.redelivered
        self.routing_key = method.routing_key


def make_message(channel: AwaitableChannel, delivery: Delivery) -> IncomingMessage:
    """Make the message of a delivery.

    It may be settled in every mode: where the library acknowledges, that does nothing.

    Args:
        channel: of the callback.
        delivery: what came.

    Returns:
        The message. What it was given for an ``expiration`` or a ``delivery_mode`` that make no
        sense is left out.
    """
    delivered: Any = _Delivered(channel, delivery)
    try:
        return IncomingMessage(delivered)
    except (ValueError, TypeError):
        view = delivered.header.properties
        view.expiration = _number_or_none(view.expiration)
        view.delivery_mode = view.delivery_mode if view.delivery_mode in (1, 2) else None
        return IncomingMessage(delivered)


def _number_or_none(text: Any) -> str | None:
    try:
        float(text)
    except (TypeError, ValueError):
        return None
    return str(text)
