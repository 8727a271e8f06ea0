"""The books of one channel against a model of them: who may settle what, and how often."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neon_mq_connector.consumers.settlement import OpenDelivery, Settlement, Verdict
from neon_mq_connector.errors import ChannelShutError
from tests.unit.fakes import FakeChannel, as_channel, make_delivery
from tests.unit.models.effort import effort

VERDICTS = st.sampled_from(Verdict)
_FRAMES = {
    Verdict.ACK: ("ack", False),
    Verdict.REJECT: ("reject", False),
    Verdict.REJECT_AND_REQUEUE: ("reject", True),
    Verdict.NACK: ("nack", False),
    Verdict.NACK_AND_REQUEUE: ("nack", True),
}


class SettlementModel(RuleBasedStateMachine):
    """Hand messages to callbacks, and settle what is open, what is not, and what never was."""

    @initialize()
    def begin(self) -> None:
        self.channel = FakeChannel()
        self.settlement = Settlement(as_channel(self.channel), "q")
        self.last_tag = 0
        self.delivered: set[int] = set()  # no callback has seen them
        self.open: dict[int, int] = {}  # attempt by tag
        self.claimed: dict[int, OpenDelivery] = {}
        self.expected: list[tuple[str, int, bool]] = []

    @property
    def is_shut(self) -> bool:
        return self.channel.error is not None

    def _expect(self, tag: int, verdict: Verdict) -> None:
        if not self.is_shut:
            kind, requeue = _FRAMES[verdict]
            self.expected.append((kind, tag, requeue))

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        first, self.last_tag = self.last_tag + 1, self.last_tag + count
        self.settlement.delivered(first, self.last_tag)
        self.delivered.update(range(first, self.last_tag + 1))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.delivered)))
        self.delivered.remove(tag)
        self.settlement.start(make_delivery(tag))
        self.open[tag] = 1

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def try_again(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.claimed)))
        item = self.claimed.pop(tag)
        self.settlement.start(item.delivery, item.attempt + 1)
        self.open[tag] = item.attempt + 1

    @rule(tag=st.integers(0, 20), multiple=st.booleans())
    def claim(self, tag: int, multiple: bool) -> None:
        if multiple:
            due = sorted(each for each in self.open if tag == 0 or each <= tag)
        else:
            due = [tag] if tag in self.open else []
        claimed = self.settlement.claim(tag, multiple=multiple)
        assert [(each.tag, each.attempt) for each in claimed] == [(t, self.open[t]) for t in due]
        for item in claimed:
            del self.open[item.tag]
            self.claimed[item.tag] = item
        assert not self.settlement.claim(tag, multiple=multiple), "claimed twice"

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), verdict=VERDICTS)
    def send(self, data: st.DataObject, verdict: Verdict) -> None:
        tag = data.draw(st.sampled_from(sorted(self.claimed)))
        del self.claimed[tag]
        self._expect(tag, verdict)
        self.settlement.send(tag, verdict)

    @rule(tag=st.integers(0, 20), verdict=VERDICTS, multiple=st.booleans())
    def settle(self, tag: int, verdict: Verdict, multiple: bool) -> None:
        due = sorted(t for t in self.open if t == tag or (multiple and (tag == 0 or t <= tag)))
        for each in due:
            del self.open[each]
            self._expect(each, verdict)
        assert self.settlement.settle(tag, verdict, multiple=multiple) is bool(due)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), unseen=st.booleans())
    def settle_without_a_callback(self, data: st.DataObject, unseen: bool) -> None:
        tag = data.draw(st.sampled_from(sorted(self.delivered)))
        self.delivered.remove(tag)
        if unseen:
            self._expect(tag, Verdict.ACK)
            self.settlement.acknowledge_unseen(tag)
        else:
            self._expect(tag, Verdict.NACK_AND_REQUEUE)
            self.settlement.give_back(tag)

    @rule(chance=st.integers(0, 9))
    def shut(self, chance: int) -> None:
        if chance == 0:
            self.channel.error = ChannelShutError("as the model says")

    @invariant()
    def the_broker_was_told_what_was_decided_and_nothing_twice(self) -> None:
        if not hasattr(self, "channel"):
            return
        assert self.channel.settled == self.expected
        tags = [tag for _, tag, _ in self.expected]
        assert len(tags) == len(set(tags))

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "channel"):
            return
        settlement = self.settlement
        assert settlement.open_count() == len(self.open)
        assert all(settlement.is_open(tag) for tag in self.open)
        assert settlement.wait_until_sent(0.0) is (not self.claimed)
        oldest = settlement.oldest()
        assert (oldest is None) is (not self.open)
        assert oldest is None or oldest.tag in self.open


TestSettlementModel = SettlementModel.TestCase
TestSettlementModel.settings = effort(examples=40, steps=40)
