"""Properties and headers of messages."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.envelope import (
    REPLY_QUEUE,
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
    "expiration, headers, seconds",
    [
        ("1500", {REPLY_QUEUE: "neon.reply.1"}, 1.5),
        ("0", {REPLY_QUEUE: "neon.reply.1"}, 0.0),
        ("-1", {REPLY_QUEUE: "neon.reply.1"}, None),
        ("soon", {REPLY_QUEUE: "neon.reply.1"}, None),
        (None, {REPLY_QUEUE: "neon.reply.1"}, None),
        ("1500", {"mine": 1}, None),
        ("1500", None, None),
    ],
)
def test_the_expiration_of_a_request_is_how_long_its_sender_waits(
    expiration: str | None, headers: Any, seconds: float | None
) -> None:
    properties = BasicProperties(expiration=expiration, headers=headers)
    assert time_allowed(properties) == seconds
