"""The frames to send are the very bytes that pika would send."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic, BasicProperties

from neon_mq_connector.link.encoder import encode_publish
from neon_mq_connector.link.properties import encode_properties
from tests.unit.link import frames

channels = st.integers(1, 65535)


def publish(exchange: str, routing_key: str, **headers: str) -> bytes:
    properties = BasicProperties(headers=headers)
    return encode_publish(
        1, exchange, routing_key, properties, b"", mandatory=False, frame_max=frames.FRAME_MAX
    )


NAMES = frames.names.filter(lambda name: not {"\r", "\n"} & set(name))


@given(channels, NAMES, NAMES, frames.properties, frames.bodies, st.booleans())
def test_a_message_is_the_bytes_that_pika_makes(
    channel: int,
    exchange: str,
    routing_key: str,
    properties: BasicProperties,
    body: bytes,
    mandatory: bool,
) -> None:
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    expected = [frames.method_frame(channel, method), *frames.content(channel, properties, body)]
    for _ in range(2):  # made, and from what is kept
        assert encode_publish(
            channel,
            exchange,
            routing_key,
            properties,
            body,
            mandatory=mandatory,
            frame_max=frames.FRAME_MAX,
        ) == b"".join(expected)


@pytest.mark.parametrize(
    "name", ["x" * 256, "é" * 128, "\ud800", "a\n"], ids=["long", "utf-8", "half", "line"]
)
def test_a_name_that_cannot_be_sent_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="the name of exchange"):
        publish(name, "queue")
    with pytest.raises(ValueError, match="the name of routing key"):
        publish("there", name)


def test_properties_that_fit_into_no_frame_are_refused() -> None:
    # the broker would close the connection, with everything on it
    room = frames.FRAME_MAX - 8 - 12 - 2 - 4 - 2 - 5
    publish("there", "queue", x="v" * room)
    with pytest.raises(ValueError, match=r"exchange 'there'.*'queue'.*negotiated frame size"):
        publish("there", "queue", x="v" * (room + 1))


def test_properties_of_another_class_encode_themselves() -> None:
    chatty = Mock(encode=lambda: [b"\x00\x00", b"and more"])
    assert encode_properties(chatty) == b"\x00\x00and more"


#: Of each kind what is fine though unusual, and what is wrong.
ODD = [b"bytes", "", 0, 1, -1, 256, 2**64, 1.0, True, "x" * 256, "\ud800", {}, [], object()]


@pytest.mark.parametrize("name", list(vars(BasicProperties())))
def test_odd_values_end_as_they_do_in_pika(name: str) -> None:
    for value in ODD:
        properties = BasicProperties(**{name: value})
        try:
            expected = b"".join(properties.encode())
        except Exception as error:
            with pytest.raises(type(error)):
                encode_properties(properties)
        else:
            assert encode_properties(properties) == expected
