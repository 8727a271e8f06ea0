"""When a consumer moves to the connection for answers, and which answers leave there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pika.exceptions
import pytest
from pika.spec import BasicProperties

from neon_mq_connector.consumers import moving
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.moving import Moves
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.errors import ChannelShutError, ConnectionLostError, MQError
from neon_mq_connector.topology import Queue
from tests.unit.fakes import (
    FakeChannel,
    FakeConnections,
    as_channel,
    as_connections,
    make_delivery,
)

REPLY_TO = f"{DIRECT_REPLY_TO}.somebody"
MANY = moving._MANY


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(moving, "time", clock)
    return clock


def moves_of(ack: AckMode = AckMode.MANUAL, **queue: Any) -> Moves:
    return Moves(Registration(Queue("q", **queue), ack=ack))


# -- when --------------------------------------------------------------------------------------


def test_many_answers_in_a_second_are_worth_a_move(clock: Clock) -> None:
    moves = moves_of()
    assert [moves.answered() for _ in range(MANY)] == [False] * (MANY - 1) + [True]
    assert not moves.answered()  # it is asked for once
    assert moves.is_wanted()


def test_few_answers_are_not_worth_it_however_many_they_become(clock: Clock) -> None:
    moves = moves_of()
    for _ in range(20 * MANY):
        clock.now += 1.5 / MANY
        assert not moves.answered()


def test_after_a_move_that_was_given_up_there_is_a_pause_and_a_longer_one_next(
    clock: Clock,
) -> None:
    moves = moves_of()
    for pause in (60.0, 120.0, 240.0):
        moves.arrived()
        moves.given_up()
        assert not moves.is_there
        clock.now += pause - 1.0
        assert not moves.is_wanted()
        clock.now += 2.0
        assert moves.is_wanted()


@pytest.mark.parametrize(
    "moves",
    [
        moves_of(AckMode.ON_RECEIPT),
        moves_of(exclusive=True),
        moves_of(auto_delete=True),
        moves_of(durable=True, arguments={"x-expires": 60_000}),
        moves_of(arguments={"x-single-active-consumer": True}),
        moves_of(durable=True, arguments={"x-queue-type": "stream"}),
    ],
)
def test_who_would_lose_something_by_it_or_has_nothing_of_it_stays(moves: Moves) -> None:
    assert not any(moves.answered() for _ in range(2 * MANY))
    assert not moves.is_wanted()


def lost_by(kind: type[MQError], cause: BaseException) -> MQError:
    error = kind("lost")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error, stays",
    [
        (ConnectionLostError("the line is cut"), True),
        (
            lost_by(ConnectionLostError, pika.exceptions.ConnectionClosedByBroker(320, "shutdown")),
            True,
        ),
        (
            lost_by(
                ConnectionLostError, pika.exceptions.ConnectionClosedByBroker(502, "syntax error")
            ),
            False,
        ),
        (
            lost_by(ChannelShutError, pika.exceptions.ChannelClosedByBroker(406, "too large")),
            False,
        ),
    ],
)
def test_what_the_broker_refuses_is_not_tried_there_again(error: MQError, stays: bool) -> None:
    moves = moves_of()
    moves.arrived()
    moves.lost(error)
    assert moves.is_there is stays
    assert moves.is_wanted() is stays


# -- which answers -----------------------------------------------------------------------------


@dataclass
class Bench:
    """A session that takes answers, on a channel that only writes down, and one open delivery."""

    takes_answers: bool = True
    connections: FakeConnections = field(default_factory=FakeConnections)
    answered: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link_channel = FakeChannel()
        host = SessionHost(
            stop=lambda: None,
            later=lambda _call: None,
            publish_failed=lambda *_: None,
            report=lambda _: None,
            answered=self.answered.append,
            ended=lambda *_: None,
            is_stopping=lambda: False,
            acks_on_receipt=False,
            flow=Flow(Registration(Queue("q")), lambda: 0, lambda: False),
        )
        self.session = Session(
            host,
            as_connections(self.connections),
            as_channel(self.link_channel),
            "q",
            {},
            takes_answers=self.takes_answers,
        )
        self.session.settlement.delivered(1, 1)
        delivery = make_delivery(1)
        self.session.settlement.start(delivery)
        self.channel = CallbackChannel(self.session, delivery)

    def answer(
        self, body: bytes = b"answer", to: str = REPLY_TO, exchange: str = "", **properties: Any
    ) -> None:
        self.channel.basic_publish(exchange, to, body, BasicProperties(**properties))

    @property
    def here(self) -> list[bytes]:
        """What has left on the channel of the request."""
        return [each.body for each in self.link_channel.published]

    @property
    def elsewhere(self) -> list[bytes]:
        """What was given to the publisher."""
        return [message.body for message in self.connections.publisher.messages]


def test_an_answer_leaves_before_the_ack_of_its_request() -> None:
    bench = Bench()
    bench.answer(correlation_id="1")
    bench.channel.basic_ack(1)
    bench.session.settlement.flush()
    assert bench.here == [b"answer"]
    assert bench.link_channel.published[0].routing_key == REPLY_TO
    assert bench.link_channel.published[0].properties.correlation_id == "1"
    assert bench.link_channel.settled == [("ack", 1, False)]
    assert bench.elsewhere == []


def test_an_answer_after_the_ack_is_confirmed_elsewhere() -> None:
    bench = Bench()
    bench.channel.basic_ack(1)
    bench.answer()
    assert (bench.here, bench.elsewhere) == ([], [b"answer"])


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"to": "some-queue"}, id="to a queue"),
        pytest.param({"exchange": "some-exchange"}, id="to an exchange"),
        pytest.param({"body": b"x" * 65_537}, id="large"),
        pytest.param({"user_id": "me"}, id="with a user's name"),
        pytest.param({"reply_to": DIRECT_REPLY_TO}, id="with a direct reply-to"),
        pytest.param({"headers": {"CC": ["q"]}}, id="with CC"),
        pytest.param({"headers": {"BCC": ["q"]}}, id="with BCC"),
    ],
)
def test_what_may_be_refused_is_confirmed_elsewhere(message: dict[str, Any]) -> None:
    bench = Bench()
    bench.answer(**message)
    assert bench.here == []
    assert len(bench.elsewhere) == 1


def test_under_an_alarm_it_is_confirmed_elsewhere() -> None:
    bench = Bench()
    bench.link_channel.link.blocked_reason = "low on memory"
    bench.answer()
    assert (bench.here, bench.elsewhere) == ([], [b"answer"])


def test_on_a_channel_that_has_ended_it_is_confirmed_elsewhere() -> None:
    bench = Bench()
    bench.link_channel.error = ConnectionLostError("gone")
    bench.answer()
    assert (bench.here, bench.elsewhere) == ([], [b"answer"])


def test_a_further_answer_after_the_ack_is_confirmed_elsewhere() -> None:
    bench = Bench()
    bench.answer(b"1")
    bench.channel.basic_ack(1)
    bench.answer(b"2")
    assert (bench.here, bench.elsewhere) == ([b"1"], [b"2"])


def test_all_answers_to_a_request_go_the_way_of_the_first() -> None:
    bench = Bench()
    bench.answer(b"1")
    bench.answer(b"2" * 70_000)
    assert [body[:1] for body in bench.here] == [b"1", b"2"]
    bench = Bench()
    bench.answer(b"1" * 70_000)
    bench.answer(b"2")
    assert [body[:1] for body in bench.elsewhere] == [b"1", b"2"]


def test_of_each_request_that_is_answered_elsewhere_note_is_taken_once() -> None:
    bench = Bench(takes_answers=False)
    bench.answer(b"1")
    bench.answer(b"2")
    assert (bench.here, bench.elsewhere) == ([], [b"1", b"2"])
    assert bench.answered == [bench.session]
