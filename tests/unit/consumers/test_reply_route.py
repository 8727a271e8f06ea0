"""How a request may be answered."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.consumers.reply_route import ReplyRoute, reply_route
from neon_mq_connector.envelope import REPLY_QUEUE

DIRECT = "amq.rabbitmq.reply-to.abc"


def test_a_request_of_ours_names_the_queue_and_the_direct_way() -> None:
    properties = BasicProperties(
        reply_to=DIRECT, correlation_id="7", headers={REPLY_QUEUE: "neon.reply.x"}
    )
    assert reply_route(properties) == ReplyRoute("neon.reply.x", DIRECT, "7")


@pytest.mark.parametrize(
    "reply_to, headers",
    [
        (None, {REPLY_QUEUE: "q"}),
        ("", {REPLY_QUEUE: "q"}),
        ("a_queue", {REPLY_QUEUE: "q"}),
        (DIRECT, None),
        (DIRECT, {}),
        (DIRECT, {REPLY_QUEUE: ""}),
        (DIRECT, {REPLY_QUEUE: None}),
        (DIRECT, {REPLY_QUEUE: 5}),
        (DIRECT, {REPLY_QUEUE: b"q"}),
        (DIRECT, {REPLY_QUEUE: ["q"]}),
    ],
)
def test_without_one_of_the_two_there_is_no_direct_way(reply_to: Any, headers: Any) -> None:
    assert reply_route(BasicProperties(reply_to=reply_to, headers=headers)) is None
