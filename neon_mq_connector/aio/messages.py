"""aio-pika's message of a delivery, for callbacks that take one; needs the extra ``aio``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aio_pika import IncomingMessage

from neon_mq_connector.aio.aiormq_channel import AiormqChannel, Header
from neon_mq_connector.aio.channel import AwaitableChannel
from neon_mq_connector.link import Delivery


def make_message(channel: AwaitableChannel, delivery: Delivery) -> IncomingMessage:
    """Make the message of a delivery.

    It may be settled in every mode: where the library acknowledges, that does nothing. An
    ``expiration`` or ``delivery_mode`` that makes no sense is left out.
    """
    method, properties, body = delivery
    header = Header(properties)
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


def _number_or_none(text: Any) -> str | None:
    try:
        float(text)
    except (TypeError, ValueError):
        return None
    return str(text)
