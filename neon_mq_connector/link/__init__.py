"""A link: one AMQP connection, the thread that owns it, and its supervision.

`interface` says what the rest of the library may use. `select_link` and `select_channel` do it over
pika's `SelectConnection`, which gets from us its loop (`loop`, `waker`), its socket (`services`,
`transport`) and what is read from it (`parser`). Messages, settlements and confirms do not pass
through pika: `encoder`, `parser` and `decoder` see to them. Nothing above this package imports
pika's connection classes, but `control`.
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
from neon_mq_connector.link.interface import (
    ChannelEvents,
    Delivery,
    LinkState,
    RawDelivery,
    Returned,
)
from neon_mq_connector.link.select_channel import SelectChannel
from neon_mq_connector.link.select_link import SelectLink
from neon_mq_connector.link.waiter import Waiter

__all__ = [
    "ChannelEvents",
    "Delivery",
    "EncodedProperties",
    "LinkState",
    "PropertiesTemplate",
    "RawDelivery",
    "Returned",
    "SelectChannel",
    "SelectLink",
    "Waiter",
    "content_type",
    "correlation_id",
    "decode_delivery",
    "decode_method",
    "delivery_tag",
]
