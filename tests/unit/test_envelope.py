"""Properties and headers of messages."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import BasicProperties

from neon_mq_connector.envelope import (
    TIME_ALLOWED,
    build_properties,
    is_direct_reply_name,
    is_reply_name,
    time_allowed,
)


def test_a_message_is_persistent_identified_and_dated() -> None:
    before = int(time.time())
    properties = build_properties(message_id="m", content_type="text/plain", app_id="service")
    assert properties.delivery_mode == 2
    assert properties.message_id == "m"
    assert properties.correlation_id == "m"
    assert properties.app_id == "service"
    assert properties.content_type == "text/plain"
    assert before <= properties.timestamp <= time.time()


@pytest.mark.parametrize(
    "given_value, on_the_wire",
    [(1000, "1000"), (1000.0, "1000"), ("1000", "1000"), ("999.9", "999"), (0, "0"), (None, None)],
)
def test_an_expiration_is_whole_milliseconds_as_text(given_value: Any, on_the_wire: Any) -> None:
    properties = build_properties(message_id="m", content_type="x", expiration=given_value)
    assert properties.expiration == on_the_wire


@given(st.floats(min_value=0, max_value=1e9))
def test_any_expiration_is_one_that_a_broker_takes(value: float) -> None:
    properties = build_properties(message_id="m", content_type="x", expiration=value)
    assert properties.expiration.isdigit()


@pytest.mark.parametrize("value", [-1, 2**32, 2.0**40, "soon", float("nan"), float("inf")])
def test_an_expiration_that_a_broker_refuses_is_refused_here(value: Any) -> None:
    with pytest.raises(ValueError, match="expiration="):
        build_properties(message_id="m", content_type="x", expiration=value)


@pytest.mark.parametrize(
    "name, direct, reply",
    [
        ("amq.rabbitmq.reply-to", True, True),
        ("amq.rabbitmq.reply-to.g1h2AA.b3==", True, True),
        ("neon.reply.0123456789abcdef", False, True),
        ("reply", False, False),
        ("", False, False),
        ("amq.gen-abc", False, False),
    ],
)
def test_the_names_of_those_who_ask_are_recognised(name: str, direct: bool, reply: bool) -> None:
    assert is_direct_reply_name(name) is direct
    assert is_reply_name(name) is reply


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({TIME_ALLOWED: 1500}, 1.5),
        ({TIME_ALLOWED: 0}, 0.0),
        ({TIME_ALLOWED: -1}, None),
        ({TIME_ALLOWED: True}, None),
        ({TIME_ALLOWED: "1500"}, None),
        ({TIME_ALLOWED: None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_time_allowed_is_read_and_nonsense_is_none(headers: Any, seconds: float | None) -> None:
    assert time_allowed(BasicProperties(headers=headers)) == seconds
