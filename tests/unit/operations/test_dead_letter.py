"""Dead letters whose headers are not what they should be."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from pika.spec import Basic, BasicProperties

from neon_mq_connector import envelope
from neon_mq_connector.link import Delivery
from neon_mq_connector.operations.dead_letter import DeadLetter

_PARKED = [value for name, value in vars(envelope).items() if name.startswith("PARKED_")]
_BROKERS = ["x-death", "x-first-death-queue", "x-first-death-reason"]


def letter(headers: dict[str, Any], body: bytes = b"{}", **properties: Any) -> DeadLetter:
    return DeadLetter.of(
        Delivery(Basic.Deliver(), BasicProperties(headers=headers, **properties), body)
    )


@pytest.mark.parametrize("value", [None, -1, 2**62, b"\xff", [], [1], {}, {"headers": 1}, "text"])
def test_no_header_that_anybody_may_send_keeps_a_dead_letter_from_being_read(value: Any) -> None:
    for name in (*_PARKED, *_BROKERS, envelope.REPLAYED):
        for others in ({}, {"neon-queue": "work"}):
            read = letter({**others, name: value})
            assert read.original_properties().headers["neon-replayed"] >= 1
            assert read.body == {}


@pytest.mark.parametrize(
    "body, properties, expected",
    [
        (b'{"message_id": "b"}', {"message_id": "a"}, "a"),
        (b'{"message_id": "b"}', {}, "b"),
        (b'{"n": 1}', {}, "sha256:e5d5f7c1d225fd6b"),
        (b"\xff", {}, "sha256:a8100ae6aa1940d0"),
    ],
)
def test_each_has_an_id(body: bytes, properties: dict[str, Any], expected: str) -> None:
    assert letter({}, body, **properties).id == expected


def test_of_a_chain_of_deaths_the_first_queue_and_the_last_time_are_told() -> None:
    last, first = datetime(2024, 1, 2), datetime(2024, 1, 1)
    read = letter(
        {
            "x-death": [
                {"queue": "later", "reason": "expired", "count": 1, "time": last},
                {
                    "queue": "work",
                    "reason": "rejected",
                    "count": 2,
                    "time": first,
                    "exchange": "events",
                    "routing-keys": ["made"],
                },
            ]
        }
    )
    assert (read.queue, read.exchange, read.routing_key) == ("work", "events", "made")
    assert read.error == "dead-lettered by the broker: rejected"
    assert (read.attempts, read.parked_at) == (3, last.replace(tzinfo=timezone.utc))
    assert read.original_properties().headers == {"neon-replayed": 1}


def test_a_message_of_the_brokers_keeps_its_priority_and_its_reply_queue() -> None:
    again = letter({"x-death": []}, priority=3, reply_to="answers").original_properties()
    assert (again.priority, again.reply_to) == (3, "answers")
