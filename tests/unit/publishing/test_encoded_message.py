"""The properties of messages that are sent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import BasicProperties

from neon_mq_connector.codec import WireFormat, content_type_of
from neon_mq_connector.link.properties import decode_properties
from neon_mq_connector.publishing.encoded_message import encode_message


def properties_of(message_id: str = "m", expiration: Any = None, **options: Any) -> BasicProperties:
    data = {"message_id": message_id}
    encoded = encode_message(data, wire_format=WireFormat.LEGACY, expiration=expiration, **options)
    return decode_properties(encoded.properties)


@pytest.mark.parametrize("long", ["x" * 256, "ä" * 128, "\ud800"])
def test_an_id_that_fits_into_no_property_is_in_the_body_alone(long: str) -> None:
    assert properties_of(long) == properties_of(long, correlation_id=long)
    assert (properties_of(long).message_id, properties_of(long).correlation_id) == (None, None)
    answer = properties_of("x" * 255, correlation_id=long, reply_to="r", app_id="a")
    assert (answer.message_id, answer.correlation_id) == ("x" * 255, None)
    assert (answer.reply_to, answer.app_id) == ("r", "a")


def test_a_message_is_persistent_identified_and_dated() -> None:
    before = int(time.time())
    properties = properties_of(app_id="service")
    assert properties.delivery_mode == 2
    assert properties.message_id == "m"
    assert properties.correlation_id == "m"
    assert properties.app_id == "service"
    assert properties.content_type == content_type_of(WireFormat.LEGACY)
    assert before <= int(properties.timestamp) <= time.time()


@pytest.mark.parametrize(
    "given_value, on_the_wire",
    [(1000, "1000"), (1000.0, "1000"), ("1000", "1000"), ("999.9", "999"), (0, "0"), (None, None)],
)
def test_an_expiration_is_whole_milliseconds_as_text(given_value: Any, on_the_wire: Any) -> None:
    properties = properties_of(expiration=given_value)
    assert properties.expiration == on_the_wire


@given(st.floats(min_value=0, max_value=1e9))
def test_any_expiration_is_one_that_a_broker_takes(value: float) -> None:
    properties = properties_of(expiration=value)
    assert str(properties.expiration).isdigit()


@pytest.mark.parametrize("value", [-1, 2**32, 2.0**40, "soon", float("nan"), float("inf")])
def test_an_expiration_that_a_broker_refuses_is_refused_here(value: Any) -> None:
    with pytest.raises(ValueError, match="expiration="):
        properties_of(expiration=value)
