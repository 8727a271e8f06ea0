"""What RabbitMQ answers, the embedded broker answers: the same operations are played on both."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from neon_mq_connector.testing import EmbeddedBroker
from neon_mq_connector.testing.running import RunningBroker
from tests.integration.embedded.operations import message_programs, programs, quorum_programs
from tests.integration.embedded.player import Operation, Player

pytestmark = [pytest.mark.needs_rabbitmq, pytest.mark.timeout(600)]

_PATIENCE_SECONDS = 120.0

_few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # to shrink a program takes longer than a test may
    suppress_health_check=list(HealthCheck),
)

Players = tuple[Player, Player]


@pytest.fixture(scope="session")
def players(broker: RunningBroker) -> Iterator[Players]:
    """Players on a RabbitMQ and on an embedded broker."""
    with EmbeddedBroker(username=broker.username) as embedded:
        vhost = f"/{secrets.token_hex(4)}"
        for each in (broker, embedded):
            each.create_vhost(vhost)
        both = Player(broker.url(vhost)), Player(embedded.url(vhost))
        yield both
        for player in both:
            player.close()
        broker.delete_vhost(vhost)


def _compare(players: Players, program: list[Operation]) -> None:
    try:
        for operation in program:
            for player in players:
                player.play(operation)
            expected, found = _observe_both(players)
            assert found == expected, f"after {operation}"
    finally:
        for player in players:
            player.clean_up()


def _observe_both(players: Players) -> tuple[list[Any], list[Any]]:
    """Observe until both are alike, for RabbitMQ's queues take their time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        expected, found = (player.observe() for player in players)
        if expected == found or time.monotonic() > deadline:
            return expected, found
        time.sleep(0.002)


@_few
@given(program=programs)
def test_all_that_amqp_has(players: Players, program: list[Operation]) -> None:
    _compare(players, program)


@_few
@given(program=message_programs)
def test_mostly_messages(players: Players, program: list[Operation]) -> None:
    _compare(players, program)


@_few
@given(program=quorum_programs)
def test_quorum_queues(players: Players, program: list[Operation]) -> None:
    _compare(players, program)


def _declare(queue: str, **arguments: Any) -> Operation:
    return "declare_queue", 0, {"queue": queue, "durable": True, "arguments": arguments}


def _publish(queue: str, body: bytes, **properties: Any) -> Operation:
    arguments = {"exchange": "", "routing_key": queue, "body": body, "mandatory": False}
    return "publish", 0, {**arguments, "properties": properties}


def _settle(how: str, **arguments: Any) -> Operation:
    return "settle", 0, {"which": 0, "how": how, **arguments}


def _exchange(name: str, kind: str, **arguments: Any) -> Operation:
    return "declare_exchange", 0, {"exchange": name, "exchange_type": kind, **arguments}


def _bound(
    key: str, arguments: dict[str, Any], sent: str, headers: dict[str, Any]
) -> Iterator[Operation]:
    """Bind `q0` to `x0`, publish there, and take the binding away."""
    where = {"queue": "q0", "exchange": "x0", "routing_key": key, "arguments": arguments}
    what = {"exchange": "x0", "routing_key": sent, "body": b"", "mandatory": False}
    yield "bind", 0, where
    yield "publish", 0, {**what, "properties": {"headers": headers}}
    yield "unbind", 0, where


_TOPICS = "a.b:a.b a.*:a.b a.*:a a.*:a.b.c *: #: #:a.b.c a.#:a a.#.c:a.c a.#.c:a.b.b.c #.c.#:a.b"
_SENT = {"a": 1, "b": 2, "x-c": 3}
_MATCHES: list[tuple[str, dict[str, Any]]] = [
    ("all", {"a": 1, "b": 2}),
    ("all", {"a": 1, "b": 3}),
    ("any", {"a": 9, "b": 2}),
    ("any", {}),
    ("all", {}),
    ("all", {"x-c": 9}),
    ("all-with-x", {"x-c": 9}),
    ("any-with-x", {"x-c": 3}),
    ("all", {"a": None}),
    ("all", {"missing": None}),
    ("all", {"a": True}),
]
_QUORUM = {"x-queue-type": "quorum"}
_TO_Q1 = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q1"}
_GET: Operation = ("get", 0, {"queue": "q0", "auto_ack": False})


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            [
                _declare("q0", **_QUORUM, **_TO_Q1, **{"x-delivery-limit": 2}),
                _declare("q1"),
                _publish("q0", b"one"),
                _publish("q0", b"two"),
                *[_GET, _settle("nack", requeue=True)] * 3,
                _GET,
                ("get", 1, {"queue": "q1", "auto_ack": True}),
            ],
            id="a quorum queue's delivery limit",
        ),
        pytest.param(
            [
                _declare("q0", **_QUORUM, **{"x-single-active-consumer": True}),
                _GET,
                ("delete_queue", 0, {"queue": "q0", "if_unused": True}),
                _declare("q1", **_QUORUM, **{"x-max-priority": 3}),
                ("declare_queue", 0, {"queue": "q1", "arguments": _QUORUM}),
                ("declare_queue", 0, {"queue": "", "arguments": _QUORUM}),
            ],
            id="what a quorum queue refuses",
        ),
        pytest.param(
            [
                _declare("q0", **_QUORUM, **_TO_Q1),
                _declare("q1", **_QUORUM),
                _publish("q0", b"one"),
                *[_GET, _settle("nack", requeue=True)] * 2,
                _GET,
                _settle("reject", requeue=False),
                ("consume", 0, {"queue": "q1", "tag": "c", "auto_ack": False, "arguments": {}}),
                ("cancel", 0, {"tag": "c"}),
                ("consume", 1, {"queue": "q1", "tag": "c", "auto_ack": False, "arguments": {}}),
                _settle("nack", requeue=True),
            ],
            id="what a quorum queue counts",
        ),
        pytest.param(
            [
                ("consume_answers", 0, {"auto_ack": False}),
                ("consume_answers", 0, {"auto_ack": True}),
                ("ask", 0, {}),
                ("declare_queue", 1, {"queue": "amq.rabbitmq.reply-to"}),
                ("declare_queue", 1, {"queue": "amq.rabbitmq.reply-to.nobody"}),
                ("get", 1, {"queue": "amq.rabbitmq.reply-to", "auto_ack": True}),
                ("consume_answers", 0, {"auto_ack": True}),
                ("ask", 0, {}),
            ],
            id="direct reply-to",
        ),
        pytest.param(
            [
                _declare("q0"),
                _exchange("x0", "topic"),
                *(
                    operation
                    for each in f"{_TOPICS} *.#.*:a.b *.#.*:a".split()
                    for key, _, sent in [each.partition(":")]
                    for operation in _bound(key, {}, sent, {})
                ),
            ],
            id="topics",
        ),
        pytest.param(
            [
                _declare("q0"),
                _exchange("x0", "headers"),
                *(
                    operation
                    for match, wanted in _MATCHES
                    for operation in _bound("", {"x-match": match, **wanted}, "", _SENT)
                ),
            ],
            id="headers",
        ),
        pytest.param(
            [
                *map(_declare, ("q0", "q1")),
                _exchange("x1", "fanout", auto_delete=True),
                _exchange("x0", "direct", arguments={"alternate-exchange": "x1"}),
                ("bind", 0, {"queue": "q1", "exchange": "x1", "routing_key": ""}),
                *_bound("good", {}, "good", {}),
                *_bound("good", {}, "bad", {}),
                ("delete_queue", 0, {"queue": "q1"}),
                _exchange("x1", "fanout", passive=True),
            ],
            id="an alternate exchange that goes with its last binding",
        ),
        pytest.param(
            [
                _declare("q0", **{"x-max-priority": 2}),
                *(_publish("q0", b"%d" % each, priority=each) for each in (0, 1, 9, 2)),
                *[_GET] * 4,
            ],
            id="priorities",
        ),
        pytest.param(
            [
                _declare("q0", **{"x-single-active-consumer": True}),
                ("consume", 0, {"queue": "q0", "tag": "c", "auto_ack": False}),
                ("consume", 2, {"queue": "q0", "tag": "c", "auto_ack": False}),
                _publish("q0", b"one"),
                ("cancel", 0, {"tag": "c"}),
                _publish("q0", b"two"),
            ],
            id="a single active consumer is followed by the next",
        ),
        pytest.param(
            [
                _declare("q0", **{**_TO_Q1, "x-dead-letter-routing-key": "q0", "x-max-length": 1}),
                _publish("q0", b"one"),
                _publish("q0", b"two"),
                _GET,
                _settle("reject", requeue=False),
                _GET,
            ],
            id="a dead letter that comes round is dropped unless it was rejected",
        ),
        pytest.param(
            [
                _declare("q0"),
                *(
                    _publish("q0", b"one", expiration=each)
                    for each in ("", "soon", "1x", "-1", "999999999999")
                ),
            ],
            id="expirations that are none",
        ),
        pytest.param(
            [
                ("delete_queue", 0, {"queue": "x" * 255}),
                ("declare_queue", 0, {"queue": "x" * 200, "passive": True}),
                ("declare_exchange", 0, {"exchange": "x" * 255, "passive": True}),
            ],
            id="long names",
        ),
    ],
)
def test_what_is_rarely_generated(players: Players, program: list[Operation]) -> None:
    _compare(players, program)
