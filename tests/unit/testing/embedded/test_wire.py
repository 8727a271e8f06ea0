"""Tables and properties, as they are read and written again."""

from __future__ import annotations

import contextlib

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.data import encode_table as pikas_encode_table

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.properties import Properties
from neon_mq_connector.testing.embedded.tables import (
    TableError,
    decode_table,
    encode_table,
    plain_table,
)

_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=20),
        st.binary(max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=20), _values, max_size=5))
def test_what_pika_writes_is_read_and_written_again_byte_by_byte(table: dict[str, object]) -> None:
    pieces: list[bytes] = []
    pikas_encode_table(pieces, table)
    encoded = b"".join(pieces)
    decoded, end = decode_table(encoded, 0)
    assert end == len(encoded)
    assert plain_table(decoded) == table
    assert encode_table(decoded) == encoded


@given(st.binary(max_size=60))
def test_garbage_ends_in_one_kind_of_error(garbage: bytes) -> None:
    with contextlib.suppress(TableError):
        decode_table(garbage, 0)


def test_tables_nested_too_deep_are_refused() -> None:
    table = b"\0\0\0\0"
    for _ in range(200):
        inner = b"\x01aF" + table
        table = len(inner).to_bytes(4, "big") + inner
    with pytest.raises(TableError, match="nested"):
        decode_table(table, 0)


def test_properties_are_passed_on_as_they_came_but_for_what_is_changed() -> None:
    given_properties = pika.BasicProperties(
        content_type="text/plain",
        headers={"a": 1},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        expiration="1000",
        message_id="m",
        timestamp=5,
        cluster_id="x",
    )
    encoded = b"".join(given_properties.encode())
    properties = Properties(encoded)
    assert properties.encode() == encoded
    assert (properties.persistent, properties.priority) == (True, 3)
    assert properties.time_to_live == 1000
    given_properties.expiration = None
    given_properties.reply_to = "there"
    changed = properties.without_expiration().with_reply_to("there")
    assert changed.encode() == b"".join(given_properties.encode())


def test_properties_that_are_cut_short_are_an_error() -> None:
    encoded = b"".join(pika.BasicProperties(message_id="0123456789").encode())
    with pytest.raises(AMQPError, match="malformed properties"):
        Properties(encoded[:-1])
