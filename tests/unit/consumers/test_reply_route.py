"""How a request may be answered."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.consumers.reply_route import ReplyRoute, reply_route
from neon_mq_connector.envelope import REPLY_QUEUE

DIRECT = "amq.rabbitmq.reply-to.abc"


@pytest.mark.parametrize("queue", ["neon.reply.x", DIRECT])
def test_a_request_of_ours_names_the_queue_and_the_direct_way(queue: str) -> None:
    properties = BasicProperties(reply_to=DIRECT, correlation_id="7", headers={REPLY_QUEUE: queue})
    assert reply_route(properties) == ReplyRoute(queue, DIRECT, "7")


@pytest.mark.parametrize("queue", ["billing", "neon.reply", DIRECT + ".another", "amq.gen-x"])
def test_a_queue_that_is_not_the_requesters_own_is_reached_as_ever(queue: str) -> None:
    properties = BasicProperties(reply_to=DIRECT, headers={REPLY_QUEUE: queue})
    assert reply_route(properties) is None


@pytest.mark.parametrize(
    "reply_to, headers",
    [
        (None, {REPLY_QUEUE: "neon.reply.q"}),
        ("", {REPLY_QUEUE: "neon.reply.q"}),
        ("a_queue", {REPLY_QUEUE: "neon.reply.q"}),
        (DIRECT, None),
        (DIRECT, {}),
        (DIRECT, {REPLY_QUEUE: ""}),
        (DIRECT, {REPLY_QUEUE: None}),
        (DIRECT, {REPLY_QUEUE: 5}),
        (DIRECT, {REPLY_QUEUE: b"neon.reply.q"}),
        (DIRECT, {REPLY_QUEUE: ["neon.reply.q"]}),
    ],
)
def test_without_one_of_the_two_there_is_no_direct_way(reply_to: Any, headers: Any) -> None:
    assert reply_route(BasicProperties(reply_to=reply_to, headers=headers)) is None
