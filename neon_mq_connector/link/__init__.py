"""A link: one AMQP connection, the thread that owns it, and its supervision.

`interface` and `events` say what the layers above may use. `select_link` and `select_channel` do it
over pika's `SelectConnection`, which gets from us its loop (`loop_thread`, `loop`), its socket
(`services`, `transport`) and what is read from it (`reader`). Messages, settlements and confirms do
not pass through pika: `encoder`, `parser` and `decoder` see to them.
"""

from __future__ import annotations

from neon_mq_connector.link.decoder import (
    content_type,
    correlation_id,
    decode_delivery,
    decode_method,
    delivery_tag,
)
from neon_mq_connector.link.encoder import EncodedProperties, PropertiesTemplate
from neon_mq_connector.link.events import (
    ChannelEvents,
    Delivery,
    LinkState,
    RawDelivery,
    Returned,
    ignore,
)
from neon_mq_connector.link.interface import Link, LinkChannel
from neon_mq_connector.link.outage import Outage, outage_of
from neon_mq_connector.link.select_link import SelectLink
from neon_mq_connector.link.waiter import Answer, Waiter

__all__ = [
    "Answer",
    "ChannelEvents",
    "Delivery",
    "EncodedProperties",
    "Link",
    "LinkChannel",
    "LinkState",
    "Outage",
    "PropertiesTemplate",
    "RawDelivery",
    "Returned",
    "SelectLink",
    "Waiter",
    "content_type",
    "correlation_id",
    "decode_delivery",
    "decode_method",
    "delivery_tag",
    "ignore",
    "outage_of",
]
