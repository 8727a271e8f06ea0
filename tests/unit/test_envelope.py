"""Properties and headers of messages."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.envelope import (
    TIME_ALLOWED,
    is_direct_reply_name,
    is_reply_name,
    time_allowed,
)


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
