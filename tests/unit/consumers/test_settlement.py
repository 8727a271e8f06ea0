"""The books of deliveries; `models.test_coalesced_acks_model` has them against a broker's."""

from __future__ import annotations

import threading
import time

import pytest

from neon_mq_connector.consumers.settlement import Settlement, Verdict
from neon_mq_connector.errors import ChannelShutError
from tests.unit.fakes import FakeChannel, as_channel, make_delivery


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def books(channel: FakeChannel) -> Settlement:
    return Settlement(as_channel(channel), "q")


def test_multiple_covers_only_what_callbacks_have_seen(
    books: Settlement, channel: FakeChannel
) -> None:
    books.delivered(1, 3)
    for tag in (1, 3):  # 2 is not started yet
        books.start(make_delivery(tag))
    assert books.settle(3, Verdict.ACK, multiple=True)
    assert [tag for _, tag, _ in channel.settled] == [1, 3]


def test_on_a_channel_that_is_shut_nothing_is_sent_and_nothing_raised(
    books: Settlement, channel: FakeChannel
) -> None:
    books.start(make_delivery(1))
    channel.error = ChannelShutError("gone")
    assert books.settle(1, Verdict.ACK)
    assert not channel.settled
    assert books.wait_until_sent(0)


def test_waiting_for_the_verdicts_ends_with_the_last_of_them(books: Settlement) -> None:
    for tag in (1, 2):
        books.start(make_delivery(tag))
    claimed = books.claim(0, multiple=True)
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(books.wait_until_sent(5.0)))
    waiting.start()
    books.send(claimed[0].tag, Verdict.ACK)
    assert not answers
    books.send(claimed[1].tag, Verdict.ACK)
    waiting.join(30.0)
    assert answers == [True]


def test_the_oldest_is_the_one_that_was_handed_over_first(books: Settlement) -> None:
    books.delivered(1, 9)
    began = time.monotonic()
    for tag in (5, 2, 9):
        books.start(make_delivery(tag))
    oldest = books.oldest()
    assert oldest is not None
    assert oldest.since >= began
    assert oldest.tag in (5, 2) if oldest.since == began else oldest.tag == 5


@pytest.mark.parametrize("_round", range(10))
def test_threads_that_ack_the_same_tags_settle_each_once(
    _round: int, books: Settlement, channel: FakeChannel
) -> None:
    count = 200
    for tag in range(1, count + 1):
        books.start(make_delivery(tag))
    barrier = threading.Barrier(6)

    def ack(number: int) -> None:
        barrier.wait(30.0)
        for tag in range(1, count + 1):
            if number == 0 and tag % 50 == 0:
                books.settle(tag, Verdict.ACK, multiple=True)
            else:
                books.settle(tag, Verdict.ACK)

    threads = [threading.Thread(target=ack, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert sorted(tag for _, tag, _ in channel.settled) == list(range(1, count + 1))
    assert books.wait_until_sent(0)
