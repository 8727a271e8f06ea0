"""Which acks leave as one, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neon_mq_connector.consumers.ack_coalescer import AckCoalescer
from neon_mq_connector.consumers.settlement import Settlement, Verdict
from neon_mq_connector.errors import StoppedError
from tests.unit.fakes import FakeChannel, as_channel, make_delivery


@pytest.fixture
def sent() -> list[tuple[int, bool]]:
    return []


@pytest.fixture
def acks(sent: list[tuple[int, bool]]) -> AckCoalescer:
    acks = AckCoalescer(lambda tag, multiple: sent.append((tag, multiple)))
    acks.limit = 4
    return acks


def test_without_a_limit_to_hold_up_to_acks_leave_singly(sent: list[tuple[int, bool]]) -> None:
    acks = AckCoalescer(lambda tag, multiple: sent.append((tag, multiple)))
    acks.delivered(1, 2)
    acks.ack(1)
    acks.ack(2)
    assert sent == [(1, False), (2, False)]


def test_acks_that_follow_each_other_leave_as_one(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 10)
    for tag in range(1, 11):
        acks.ack(tag)
    assert sent == [(4, True), (8, True)]
    acks.flush()
    acks.flush()
    assert sent == [(4, True), (8, True), (10, True)]


def test_one_that_was_held_back_alone_covers_no_other(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 1)
    acks.ack(1)
    acks.flush()
    assert sent == [(1, False)]


def test_an_ack_ahead_of_an_open_delivery_leaves_alone(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 5)
    acks.ack(1)
    acks.ack(3)
    assert sent == [(1, False), (3, False)]
    acks.ack(2)
    acks.ack(4)
    acks.flush()
    assert sent[2:] == [(4, True)]  # 3 is settled: there is no gap


def test_a_refusal_leaves_behind_the_acks_before_it_and_is_no_gap_afterwards(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 6)
    acks.ack(1)
    acks.ack(2)
    acks.settled_otherwise(3)
    assert sent == [(2, True)]
    acks.ack(4)
    acks.ack(5)
    acks.flush()
    assert sent == [(2, True), (5, True)]


def test_tags_that_are_not_ours_are_no_gap(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 1)
    acks.delivered(4, 4)
    acks.delivered(7, 8)
    for tag in (1, 4, 7):
        acks.ack(tag)
    acks.flush()
    assert sent == [(7, True)]


def test_a_delivery_that_is_fetched_waits_for_its_own_ack(
    acks: AckCoalescer, sent: list[tuple[int, bool]]
) -> None:
    acks.delivered(1, 2)
    acks.delivered(3, 3)  # fetched, by somebody who keeps it
    acks.delivered(4, 5)
    for tag in (1, 2, 4, 5):
        acks.ack(tag)
    assert sent == [(2, True), (4, False), (5, False)]


# -- in the books of a channel -----------------------------------------------------------------


class Timers:
    """Take the place of a link: what is to be called later is called when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.refuses = False

    def __call__(self, _delay: float, work: Callable[[], None]) -> None:
        if self.refuses:
            raise StoppedError("the link is closed")
        self.waiting.append(work)

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def books(channel: FakeChannel, timers: Timers) -> Settlement:
    books = Settlement(as_channel(channel), "q", timers)
    books.hold_up_to(10)
    books.delivered(1, 20)
    for tag in range(1, 21):
        books.start(make_delivery(tag))
    return books


def test_what_is_held_back_leaves_after_a_moment(
    books: Settlement, channel: FakeChannel, timers: Timers
) -> None:
    for _ in range(2):
        for tag in (1, 2, 3) if not channel.settled else (4, 5):
            books.settle(tag, Verdict.ACK)
        assert len(timers.waiting) == 1, "a timer for each ack would cost what is to be saved"
        timers.fire()
    assert channel.settled == [("multiple ack", 3, False), ("multiple ack", 5, False)]


def test_a_timer_that_finds_nothing_sends_nothing(
    books: Settlement, channel: FakeChannel, timers: Timers
) -> None:
    books.settle(1, Verdict.ACK)
    books.flush()
    timers.fire()
    assert channel.settled == [("ack", 1, False)]


def test_the_acks_before_a_refusal_leave_before_it(books: Settlement, channel: FakeChannel) -> None:
    books.settle(1, Verdict.ACK)
    books.settle(2, Verdict.ACK)
    books.settle(3, Verdict.REJECT)
    books.settle(4, Verdict.NACK_AND_REQUEUE)
    assert channel.settled == [
        ("multiple ack", 2, False),
        ("reject", 3, False),
        ("nack", 4, True),
    ]


def test_a_message_that_is_tried_again_is_not_acked_by_those_behind_it(
    books: Settlement, channel: FakeChannel
) -> None:
    (failed,) = books.claim(1)
    for tag in (2, 3):
        books.settle(tag, Verdict.ACK)
    books.start(failed.delivery, attempt=2)
    books.settle(4, Verdict.ACK)
    assert channel.settled == [("ack", 2, False), ("ack", 3, False), ("ack", 4, False)]
    books.settle(1, Verdict.ACK)
    books.settle(5, Verdict.ACK)
    books.flush()
    assert channel.settled[3:] == [("multiple ack", 5, False)]


def test_acks_on_a_link_that_is_closed_raise_nothing(
    books: Settlement, channel: FakeChannel, timers: Timers
) -> None:
    timers.refuses = True
    assert books.settle(1, Verdict.ACK)
    channel.error = StoppedError("the link is closed")
    books.flush()
    assert not channel.settled
