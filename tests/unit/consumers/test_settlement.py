"""The books of deliveries, against a model of what a broker allows."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neon_mq_connector.consumers.settlement import Settlement, Verdict
from neon_mq_connector.errors import ChannelShutError
from tests.unit.fakes import FakeChannel, as_channel, make_delivery

VERDICTS = st.sampled_from(list(Verdict))
TAGS = st.integers(min_value=-1, max_value=40)


class SettlementModel(RuleBasedStateMachine):
    """Never a tag twice, never one that was not delivered, never one that no callback has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = FakeChannel()
        self.settlement = Settlement(as_channel(self.channel), "q")
        self.delivered = 0
        self.prefetched: list[int] = []  # delivered, and with no callback yet
        self.open: set[int] = set()
        self.claimed: dict[int, int] = {}  # to be settled later: tag -> attempt
        self.expected: list[tuple[str, int, bool]] = []

    @rule()
    def deliver(self) -> None:
        self.delivered += 1
        self.settlement.delivered(self.delivered, self.delivered)
        self.prefetched.append(self.delivered)

    @precondition(lambda self: self.prefetched)
    @rule()
    def start(self) -> None:
        tag = self.prefetched.pop(0)
        self.settlement.start(make_delivery(tag))
        self.open.add(tag)

    @precondition(lambda self: self.prefetched)
    @rule()
    def give_back_what_was_not_started(self) -> None:
        tag = self.prefetched.pop()
        self.settlement.give_back(tag)
        self.expected.append(("nack", tag, True))

    @precondition(lambda self: self.prefetched)
    @rule()
    def drop_a_repetition(self) -> None:
        tag = self.prefetched.pop(0)
        self.settlement.acknowledge_unseen(tag)
        self.expected.append(("ack", tag, False))

    @rule(tag=TAGS, verdict=VERDICTS)
    def settle(self, tag: int, verdict: Verdict) -> None:
        assert self.settlement.settle(tag, verdict) is (tag in self.open)
        if tag in self.open:
            self._expect(tag, verdict)

    @rule(tag=TAGS, verdict=VERDICTS)
    def settle_many(self, tag: int, verdict: Verdict) -> None:
        covered = sorted(each for each in self.open if tag == 0 or each <= tag)
        assert self.settlement.settle(tag, verdict, multiple=True) is bool(covered)
        for each in covered:
            self._expect(each, verdict)

    @rule(tag=TAGS, multiple=st.booleans())
    def claim(self, tag: int, multiple: bool) -> None:
        for item in self.settlement.claim(tag, multiple=multiple):
            assert item.tag in self.open
            self.open.remove(item.tag)
            self.claimed[item.tag] = item.attempt

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), verdict=VERDICTS)
    def send_what_was_claimed(self, data: st.DataObject, verdict: Verdict) -> None:
        tag = data.draw(st.sampled_from(sorted(self.claimed)))
        del self.claimed[tag]
        self.settlement.send(tag, verdict)
        self.open.add(tag)  # for _expect
        self._expect(tag, verdict)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def try_again(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.claimed)))
        attempt = self.claimed.pop(tag)
        self.settlement.start(make_delivery(tag), attempt + 1)
        self.open.add(tag)

    def _expect(self, tag: int, verdict: Verdict) -> None:
        self.open.remove(tag)
        kind, requeue = {
            Verdict.ACK: ("ack", False),
            Verdict.REJECT: ("reject", False),
            Verdict.REJECT_AND_REQUEUE: ("reject", True),
            Verdict.NACK: ("nack", False),
            Verdict.NACK_AND_REQUEUE: ("nack", True),
        }[verdict]
        self.expected.append((kind, tag, requeue))

    @invariant()
    def what_the_broker_got_is_what_was_decided(self) -> None:
        assert self.channel.settled == self.expected

    @invariant()
    def no_tag_is_settled_twice_or_unknown(self) -> None:
        tags = [tag for _, tag, _ in self.channel.settled]
        assert len(tags) == len(set(tags))
        assert all(1 <= tag <= self.delivered for tag in tags)

    @invariant()
    def no_multiple_settlement_reaches_the_broker_over_an_open_tag(self) -> None:
        assert not any(kind.startswith("multiple") for kind, _, _ in self.channel.settled)

    @invariant()
    def the_books_agree(self) -> None:
        assert self.settlement.open_count() == len(self.open)
        assert all(self.settlement.is_open(tag) for tag in self.open)
        assert not any(self.settlement.is_open(tag) for tag in self.claimed)
        assert self.settlement.wait_until_sent(0) is (not self.claimed)
        oldest = self.settlement.oldest()
        assert (oldest is None) is (not self.open)
        assert oldest is None or oldest.tag in self.open


TestSettlementModel = SettlementModel.TestCase
TestSettlementModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


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
    waiting.join(5.0)
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
        barrier.wait(5.0)
        for tag in range(1, count + 1):
            if number == 0 and tag % 50 == 0:
                books.settle(tag, Verdict.ACK, multiple=True)
            else:
                books.settle(tag, Verdict.ACK)

    threads = [threading.Thread(target=ack, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert sorted(tag for _, tag, _ in channel.settled) == list(range(1, count + 1))
    assert books.wait_until_sent(0)
