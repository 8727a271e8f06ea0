"""Deliveries are decoded to what pika would make of them, and hostile ones end in one error."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.decoder import decode_delivery, delivery_tag
from neon_mq_connector.link.properties import correlation_id
from tests.unit.link import frames

METHOD, _, _ = frames.raw(Basic.Deliver("tag", 7, True, "exchange", "key"), BasicProperties())
FULL = BasicProperties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"x": 1, "y": ["z", {"é": None}]},
    delivery_mode=2,
    priority=3,
    correlation_id="4",
    reply_to="there",
    expiration="5000",
    message_id="6",
    timestamp=7,
    type="t",
    user_id="u",
    app_id="a",
    cluster_id="c",
)


def with_headers(table: bytes, size: int | None = None) -> bytes:
    """Properties that have headers only."""
    flags = BasicProperties.FLAG_HEADERS
    return struct.pack(">HI", flags, len(table) if size is None else size) + table


@given(frames.delivers, frames.properties, st.binary(max_size=20))
def test_a_delivery_is_what_pika_makes_of_it(
    method: Basic.Deliver, properties: BasicProperties, body: bytes
) -> None:
    raw = frames.raw(method, properties, body)
    for _ in range(2):  # made, and from what is kept
        found = decode_delivery(raw)
        assert found.method == Basic.Deliver().decode(raw[0])
        assert found.properties == BasicProperties().decode(raw[1])
        assert found.body == body
        assert type(found.method) is Basic.Deliver
        assert type(found.properties) is BasicProperties
        assert vars(found.method) == vars(method)
        assert vars(found.properties) == vars(BasicProperties().decode(raw[1]))
        assert repr(found.properties) == repr(BasicProperties().decode(raw[1]))
    assert delivery_tag(raw[0]) == method.delivery_tag
    assert correlation_id(raw[1]) == properties.correlation_id


def test_each_delivery_has_properties_of_its_own() -> None:
    raw = frames.raw(Basic.Deliver("tag", 7, False, "", "q"), BasicProperties(headers={"x": 1}))
    one, other = decode_delivery(raw), decode_delivery(raw)
    one.properties.app_id = "mine"
    one.properties.headers["x"] = 2
    assert other.properties.app_id is None
    assert other.properties.headers == {"x": 1}


# -- hostile --------------------------------------------------------------------------------------


def everything(method: bytes, header: bytes) -> None:
    """Read it in every way; only `FrameError` may come of it."""
    for read in (
        lambda: decode_delivery((method, header, b"")),
        lambda: delivery_tag(method),
        lambda: correlation_id(header),
    ):
        with contextlib.suppress(FrameError):
            read()


def refuses(header: bytes, match: str) -> None:
    with pytest.raises(FrameError, match=match):
        decode_delivery((METHOD, header, b""))


@given(frames.delivers, frames.properties, st.binary(max_size=80), st.data())
def test_any_and_changed_bytes_give_a_delivery_or_the_one_error(
    method: Basic.Deliver, properties: BasicProperties, garbage: bytes, data: st.DataObject
) -> None:
    everything(garbage, garbage)
    for encoded in frames.raw(method, properties)[:2]:
        where = data.draw(st.integers(0, len(encoded) - 1))
        changed = encoded[:where] + bytes((data.draw(frames.octets),)) + encoded[where + 1 :]
        everything(changed, changed)


HEADER = b"".join(FULL.encode())
NESTED = b"".join(BasicProperties(headers={"x": {"y": "z"}}).encode())


@pytest.mark.parametrize(
    "read, encoded",
    [
        (lambda method: decode_delivery((method, b"\x00\x00", b"")), METHOD),
        (lambda header: decode_delivery((METHOD, header, b"")), HEADER),
        (lambda header: decode_delivery((METHOD, header, b"")), NESTED),
        (correlation_id, HEADER[: HEADER.index(b"\x014\x05there") + 2]),
    ],
    ids=["arguments", "properties", "nested headers", "a correlation id"],
)
def test_what_is_cut_short_is_refused_wherever_it_is(
    read: Callable[[bytes], object], encoded: bytes
) -> None:
    read(encoded)
    for length in range(len(encoded)):
        with pytest.raises(FrameError, match="malformed"):
            read(encoded[:length])


def test_text_that_is_no_text_is_refused() -> None:
    strings = ["application/json", "utf-8", "4", "there", "5000", "6", "t", "u", "a", "c"]
    for value in strings:
        encoded = bytes((len(value),)) + value.encode()
        header = HEADER.replace(encoded, encoded[:1] + b"\xff" * len(value), 1)
        refuses(header, "malformed properties")
    for name in (b"\x03tag", b"\x08exchange", b"\x03key"):
        method = METHOD.replace(name, name[:1] + b"\xff" * (len(name) - 1))
        with pytest.raises(FrameError, match="malformed arguments"):
            decode_delivery((method, HEADER, b""))


def test_tables_nested_10000_deep_are_refused() -> None:
    table = b""
    for _ in range(10_000):
        table = b"\x00F" + struct.pack(">I", len(table)) + table
    refuses(with_headers(table), "nested too deep")


@pytest.mark.parametrize(
    "table",
    [
        b"\x01xT" + struct.pack(">Q", 2**63),
        b"\x01xd" + struct.pack(">d", float("nan")),
        b"\x01x?",
        b"\x01x",
        b"\x01xA" + struct.pack(">I", 2**32 - 1) + b"V",
        b"\x01xS" + struct.pack(">I", 2**32 - 1) + b"V",
        b"\x01xF" + struct.pack(">I", 2**32 - 1) + b"\x01xV",
    ],
    ids=["time", "nan", "type", "none", "array", "string", "table"],
)
def test_headers_that_pika_cannot_read_are_refused(table: bytes) -> None:
    refuses(with_headers(table), "malformed properties: ")


def test_headers_that_lie_about_their_size_are_refused() -> None:
    table = b"\x01xI\x00\x00\x00\x01"
    assert decode_delivery((METHOD, with_headers(table), b"")).properties.headers == {"x": 1}
    for size in (*range(1, len(table)), len(table) + 1, 2**32 - 1):
        refuses(with_headers(table, size), "malformed properties: ")


def test_more_flags_than_there_are_properties_are_refused() -> None:
    for header in (b"\x00\x01\x00\x00", b"\xff" * 65536):
        refuses(header, "malformed")
    with pytest.raises(FrameError, match="more flags"):
        correlation_id(b"\x04\x01\x00\x00\x01x")


def test_a_known_name_is_not_found_in_other_bytes() -> None:
    decode_delivery((METHOD, b"\x00\x00", b""))
    with pytest.raises(FrameError, match="do not end with the routing key"):
        decode_delivery((METHOD + b"junk", b"\x00\x00", b""))
