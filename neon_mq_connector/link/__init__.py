"""A link: one AMQP connection, the thread that owns it, and its supervision.

The layers above use a connection through `Link`, `LinkChannel` and `ChannelEvents`, and nothing
else: they neither touch pika's channels nor know how bytes reach the socket. Both are built on
pika's `SelectConnection`, which gets from us its loop (`io_thread`, `loop`), its socket
(`services`, `transport`) and what is read from it (`reader`). Messages, settlements and confirms do
not pass through pika: `encoder`, `parser`, `decoder` and `properties` see to them.
"""

from __future__ import annotations

from neon_mq_connector.link.channel import LinkChannel
from neon_mq_connector.link.channel_calls import ChannelEvents, ignore
from neon_mq_connector.link.decoder import Delivery, decode_delivery, decode_method, delivery_tag
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.link import Link, LinkState
from neon_mq_connector.link.outage import Outage, outage_of
from neon_mq_connector.link.parser import RawDelivery
from neon_mq_connector.link.properties import (
    EncodedProperties,
    PropertiesTemplate,
    content_type,
    correlation_id,
)
from neon_mq_connector.link.waiter import Answer, CallbackAnswer, Waiter

__all__ = [
    "Answer",
    "CallbackAnswer",
    "ChannelEvents",
    "Delivery",
    "EncodedProperties",
    "IOThread",
    "Link",
    "LinkChannel",
    "LinkState",
    "Outage",
    "PropertiesTemplate",
    "RawDelivery",
    "Waiter",
    "content_type",
    "correlation_id",
    "decode_delivery",
    "decode_method",
    "delivery_tag",
    "ignore",
    "outage_of",
]
