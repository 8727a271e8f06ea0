"""Frames as pika makes them, and values to put into them."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from pika.amqp_object import Method as AnyMethod
from pika.frame import Body, Header, Heartbeat, Method
from pika.spec import Basic, BasicProperties

from neon_mq_connector.link.parser import RawDelivery

FRAME_MAX = 4096

text = st.text(st.characters(codec="utf-8"), max_size=20)
#: What fits into a short string: 255 bytes.
names = st.text(st.characters(codec="utf-8"), max_size=63)
octets = st.integers(0, 255)
tags = st.integers(0, 2**64 - 1)
#: Of no, one and several frames.
bodies = st.binary(max_size=64) | st.integers(4000, 9000).map(
    lambda size: (bytes(range(256)) * 36)[:size]
)

_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**63), 2**63 - 1),
        text,
        st.binary(max_size=20),
        st.decimals(-1000, 1000, places=2),
        st.just(Decimal("1.5")),
        st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(
            lambda when: when.replace(microsecond=0, tzinfo=timezone.utc)
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
headers = st.dictionaries(text, _values, max_size=4)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


properties = st.builds(
    BasicProperties,
    content_type=optional(names),
    content_encoding=optional(names),
    headers=optional(headers),
    delivery_mode=optional(octets),
    priority=optional(octets),
    correlation_id=optional(names),
    reply_to=optional(names),
    expiration=optional(names),
    message_id=optional(names),
    timestamp=optional(tags),
    type=optional(names),
    user_id=optional(names),
    app_id=optional(names),
    cluster_id=optional(names),
)
delivers = st.builds(
    Basic.Deliver,
    consumer_tag=names,
    delivery_tag=tags,
    redelivered=st.booleans(),
    exchange=names,
    routing_key=names,
)


def method_frame(channel: int, method: AnyMethod) -> bytes:
    return Method(channel, method).marshal()


def content(
    channel: int, properties: BasicProperties, body: bytes, largest: int = FRAME_MAX - 8
) -> list[bytes]:
    """The content header and the body frames of a message."""
    return [
        Header(channel, len(body), properties).marshal(),
        *(
            Body(channel, body[start : start + largest]).marshal()
            for start in range(0, len(body), largest)
        ),
    ]


def message(
    channel: int,
    tag: int,
    body: bytes = b"body",
    properties: BasicProperties | None = None,
    largest: int = FRAME_MAX - 8,
) -> list[bytes]:
    """The frames of a delivery."""
    return [
        method_frame(channel, Basic.Deliver("consumer", tag, False, "exchange", "key")),
        *content(channel, properties or BasicProperties(content_type="x/y"), body, largest),
    ]


def raw(deliver: Basic.Deliver, properties: BasicProperties, body: bytes = b"") -> RawDelivery:
    """What the parser makes of a delivery."""
    return b"".join(deliver.encode()), b"".join(properties.encode()), body


HEARTBEAT = Heartbeat().marshal()
