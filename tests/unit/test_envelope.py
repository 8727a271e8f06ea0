"""Properties and headers of messages."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.envelope import (
    REPLY_QUEUE,
    time_allowed,
)


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
