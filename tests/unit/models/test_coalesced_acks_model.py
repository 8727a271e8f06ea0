"""Acks that leave as one, against the books that a broker keeps of a channel."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Queue
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from neon_mq_connector.consumers import settlement as settlement_module
from neon_mq_connector.consumers.settlement import OpenDelivery, Settlement, Verdict
from neon_mq_connector.errors import ChannelShutError, MQError
from neon_mq_connector.link import LinkChannel
from tests.unit.fakes import make_delivery
from tests.unit.models.effort import effort
from tests.unit.models.simulation import Simulation, Task

REFUSALS = {
    Verdict.REJECT: ("reject", False),
    Verdict.REJECT_AND_REQUEUE: ("reject", True),
    Verdict.NACK: ("nack", False),
    Verdict.NACK_AND_REQUEUE: ("nack", True),
}
SELDOM = st.sampled_from([False] * 9 + [True])
VERDICTS = st.sampled_from([Verdict.ACK, Verdict.ACK, Verdict.ACK, *REFUSALS])


class BrokersBooks:
    """One channel as its broker sees it: a frame about what its owner has not decided is wrong.

    Attributes:
        outstanding: what was delivered and not settled.
        acked: what its owner has acknowledged, here or held back still.
        refusals: what its owner has refused, and how, until the broker is told.
        frames: what the broker was told.
    """

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.acked: set[int] = set()
        self.refusals: dict[int, tuple[str, bool]] = {}
        self.frames: list[tuple[str, int, bool]] = []
        self.error: MQError | None = None
        self._last_tag = 0
        self._lock = threading.Lock()

    def deliver(self, count: int) -> list[int]:
        """Deliver some messages; gives their tags."""
        with self._lock:
            tags = list(range(self._last_tag + 1, self._last_tag + count + 1))
            self._last_tag += count
            self.outstanding.update(tags)
        return tags

    def deliver_acknowledged(self) -> None:
        """Deliver a message that needs no ack, which takes a tag all the same."""
        self._last_tag += 1

    def decide(self, tag: int, verdict: Verdict) -> None:
        """Note what the owner of a delivery is about to say of it."""
        if verdict is Verdict.ACK:
            self.acked.add(tag)
        else:
            self.refusals[tag] = REFUSALS[verdict]

    @property
    def held(self) -> set[int]:
        """What was acknowledged without the broker being told."""
        return self.acked & self.outstanding

    # -- what the library calls ----------------------------------------------------------------

    def ack(self, tag: int, multiple: bool = False) -> None:
        with self._lock:
            self._take("ack", tag, multiple)
            covered = {t for t in self.outstanding if t == tag or (multiple and t <= tag)}
            not_acked = [each for each in covered if each not in self.acked]
            assert not not_acked, f"an ack up to {tag} covers {sorted(not_acked)}"
            self.outstanding -= covered

    def reject(self, tag: int, *, requeue: bool) -> None:
        self._refuse("reject", tag, requeue)

    def nack(self, tag: int, *, requeue: bool) -> None:
        self._refuse("nack", tag, requeue)

    def _refuse(self, kind: str, tag: int, requeue: bool) -> None:
        with self._lock:
            self._take(kind, tag, requeue)
            assert self.refusals.pop(tag, None) == (kind, requeue)
            self.outstanding.remove(tag)

    def _take(self, kind: str, tag: int, flag: bool) -> None:
        if self.error is not None:
            raise self.error
        assert tag in self.outstanding, f"{kind} of {tag}: settled twice, or never delivered"
        self.frames.append((kind, tag, flag))


class Generation:
    """A channel, the books of both sides, and who has what."""

    def __init__(self, limit: int) -> None:
        self.broker = BrokersBooks()
        self.timers: list[Callable[[], None]] = []
        self.settlement = Settlement(cast(LinkChannel, self.broker), "q", self._later)
        self.settlement.hold_up_to(limit)
        self.limit = limit
        self.waiting: set[int] = set()  # no callback has seen them
        self.open: dict[int, int] = {}  # attempt by tag
        self.claimed: dict[int, OpenDelivery] = {}

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        assert 0 < delay <= 0.05
        self.timers.append(work)

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for work in timers:
            work()


class CoalescedAcksModel(RuleBasedStateMachine):
    """Settle in any order what came in order; every frame is checked by the broker's books."""

    now: Generation

    @initialize(limit=st.integers(1, 6))
    def begin(self, limit: int) -> None:
        self.now = Generation(limit)
        self.old: list[Generation] = []

    # -- what comes ----------------------------------------------------------------------------

    @rule(count=st.integers(1, 8), started=st.booleans())
    def deliver(self, count: int, started: bool) -> None:
        tags = self.now.broker.deliver(count)
        self.now.settlement.delivered(tags[0], tags[-1])
        self.now.waiting.update(tags)
        for tag in reversed(tags if started else []):
            self._start(tag)

    @rule(fates=st.lists(st.sampled_from(["ours", "ours", "given back"]), min_size=1, max_size=6))
    def deliver_what_is_partly_of_a_cancelled_consumer(self, fates: Sequence[str]) -> None:
        broker = self.now.broker
        tags = dict(zip(broker.deliver(len(fates)), fates, strict=True))
        for tag, fate in tags.items():  # the channel does so before anybody hears of the others
            if fate != "ours" and broker.error is None:
                broker.decide(tag, Verdict.NACK_AND_REQUEUE)
                broker.nack(tag, requeue=True)
        for tag, fate in tags.items():
            if fate == "ours":
                self.now.settlement.delivered(tag, tag)
                self.now.waiting.add(tag)

    @rule()
    def fetch(self) -> None:
        (tag,) = self.now.broker.deliver(1)
        self.now.settlement.delivered(tag, tag)
        self.now.waiting.add(tag)

    @rule()
    def fetch_what_needs_no_ack(self) -> None:
        self.now.broker.deliver_acknowledged()

    # -- callbacks and others ------------------------------------------------------------------

    @precondition(lambda self: self.now.waiting)
    @rule(data=st.data(), in_order=st.booleans(), count=st.integers(1, 4))
    def start(self, data: st.DataObject, in_order: bool, count: int) -> None:
        now = self.now
        for _ in range(min(count, len(now.waiting))):
            tag = min(now.waiting)
            if not in_order:
                tag = data.draw(st.sampled_from(sorted(now.waiting)))
            self._start(tag)

    def _start(self, tag: int) -> None:
        self.now.waiting.remove(tag)
        self.now.settlement.start(make_delivery(tag))
        self.now.open[tag] = 1

    @precondition(lambda self: self.now.open)
    @rule(first=st.integers(0, 3), count=st.integers(1, 6))
    def ack_in_order(self, first: int, count: int) -> None:
        for tag in sorted(self.now.open)[first : first + count]:
            self._settle(tag, Verdict.ACK)

    @precondition(lambda self: self.now.open)
    @rule(data=st.data(), verdict=VERDICTS)
    def settle(self, data: st.DataObject, verdict: Verdict) -> None:
        self._settle(data.draw(st.sampled_from(sorted(self.now.open))), verdict)

    def _settle(self, tag: int, verdict: Verdict) -> None:
        now = self.now
        del now.open[tag]
        now.broker.decide(tag, verdict)
        assert now.settlement.settle(tag, verdict)
        assert not now.settlement.settle(tag, verdict), "settled twice"
        self._was_told(tag, verdict)

    @rule(tag=st.integers(0, 30), verdict=VERDICTS)
    def settle_many(self, tag: int, verdict: Verdict) -> None:
        now = self.now
        due = sorted(each for each in now.open if tag == 0 or each <= tag)
        for each in due:
            del now.open[each]
            now.broker.decide(each, verdict)
        assert now.settlement.settle(tag, verdict, multiple=True) is bool(due)

    @precondition(lambda self: self.now.open)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        now = self.now
        tag = data.draw(st.sampled_from(sorted(now.open)))
        del now.open[tag]
        (now.claimed[tag],) = now.settlement.claim(tag)

    @precondition(lambda self: self.now.claimed)
    @rule(data=st.data(), verdict=VERDICTS)
    def send_what_was_claimed(self, data: st.DataObject, verdict: Verdict) -> None:
        now = self.now
        tag = data.draw(st.sampled_from(sorted(now.claimed)))
        del now.claimed[tag]
        now.broker.decide(tag, verdict)
        now.settlement.send(tag, verdict)
        self._was_told(tag, verdict)

    @precondition(lambda self: self.now.claimed)
    @rule(data=st.data())
    def try_again(self, data: st.DataObject) -> None:
        now = self.now
        tag = data.draw(st.sampled_from(sorted(now.claimed)))
        item = now.claimed.pop(tag)
        now.settlement.start(item.delivery, item.attempt + 1)
        now.open[tag] = item.attempt + 1

    @precondition(lambda self: self.now.waiting)
    @rule(data=st.data(), unseen=st.booleans())
    def settle_without_a_callback(self, data: st.DataObject, unseen: bool) -> None:
        now = self.now
        tag = data.draw(st.sampled_from(sorted(now.waiting)))
        now.waiting.remove(tag)
        verdict = Verdict.ACK if unseen else Verdict.NACK_AND_REQUEUE
        now.broker.decide(tag, verdict)
        if unseen:
            now.settlement.acknowledge_unseen(tag)
        else:
            now.settlement.give_back(tag)
        self._was_told(tag, verdict)

    def _was_told(self, tag: int, verdict: Verdict) -> None:
        """Check that only an ack is held back which follows all others."""
        broker = self.now.broker
        if broker.error is not None:
            return
        if verdict is not Verdict.ACK:
            assert not broker.held, "acks were held back past a refusal"
        elif any(each < tag for each in broker.outstanding - broker.acked):
            assert tag not in broker.outstanding, f"an ack of {tag} waits behind an open delivery"

    # -- what ends the holding -----------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.now.settlement.flush()
        assert not self.now.broker.held or self.now.broker.error is not None

    @rule()
    def time_passes(self) -> None:
        self.now.time_passes()
        assert not self.now.broker.held or self.now.broker.error is not None

    @rule(limit=st.integers(-1, 6))
    def hold_up_to(self, limit: int) -> None:
        self.now.settlement.hold_up_to(limit)
        if not self.now.broker.held:
            self.now.limit = limit
        self.now.limit = max(self.now.limit, limit, 1)

    # -- generations ---------------------------------------------------------------------------

    @rule(chance=SELDOM)
    def shut(self, chance: bool) -> None:
        if chance:
            self.now.broker.error = ChannelShutError("as the model says")

    @rule(chance=SELDOM, limit=st.integers(1, 6))
    def begin_anew(self, chance: bool, limit: int) -> None:
        if chance or self.now.broker.error is not None:
            self.now.broker.error = ChannelShutError("as the model says")
            self.old.append(self.now)
            self.now = Generation(limit)

    @precondition(lambda self: any(each.claimed or each.open for each in self.old))
    @rule(data=st.data(), verdict=VERDICTS)
    def settle_what_is_gone(self, data: st.DataObject, verdict: Verdict) -> None:
        old = data.draw(st.sampled_from([each for each in self.old if each.claimed or each.open]))
        tag = data.draw(st.sampled_from(sorted({*old.claimed, *old.open})))
        if old.claimed.pop(tag, None) is not None:
            old.settlement.send(tag, verdict)
        else:
            del old.open[tag]
            assert old.settlement.settle(tag, verdict)
        old.time_passes()
        old.settlement.flush()

    # -- always --------------------------------------------------------------------------------

    @invariant()
    def what_is_held_back_is_little_and_will_leave(self) -> None:
        if not hasattr(self, "now"):
            return
        now, broker = self.now, self.now.broker
        if broker.error is not None:
            return
        assert len(broker.held) < max(now.limit, 1) or not broker.held
        assert not broker.held or now.timers, "acks are held back and nothing is to end it"
        assert not broker.refusals, "a refusal was not sent"
        if not broker.held:
            now.limit = now.settlement._acks.limit

    @invariant()
    def nothing_is_settled_that_nobody_decided(self) -> None:
        if not hasattr(self, "now"):
            return
        now, broker = self.now, self.now.broker
        if broker.error is None:
            undecided = {*now.waiting, *now.open, *now.claimed}
            assert broker.outstanding == undecided | broker.held

    def teardown(self) -> None:
        if not hasattr(self, "now"):
            return
        now = self.now
        for tag in sorted(now.waiting):
            now.settlement.start(make_delivery(tag))
            now.open[tag] = 1
        now.waiting.clear()
        for tag in sorted(now.open):
            now.broker.decide(tag, Verdict.ACK)
            now.settlement.settle(tag, Verdict.ACK)
        for tag in sorted(now.claimed):
            now.broker.decide(tag, Verdict.ACK)
            now.settlement.send(tag, Verdict.ACK)
        now.time_passes()
        assert not now.broker.outstanding or now.broker.error is not None
        assert now.settlement.wait_until_sent(0.0)


TestCoalescedAcksModel = CoalescedAcksModel.TestCase
TestCoalescedAcksModel.settings = effort(examples=150, steps=50)


# -- several threads ---------------------------------------------------------------------------


def _deliver(broker: BrokersBooks, settlement: Settlement, count: int) -> None:
    tags = broker.deliver(count)
    settlement.delivered(tags[0], tags[-1])
    for tag in tags:
        settlement.start(make_delivery(tag))


@effort(examples=150)
@given(
    limit=st.integers(2, 6),
    owners=st.lists(st.tuples(st.integers(0, 3), VERDICTS), min_size=1, max_size=16),
    order=st.randoms(use_true_random=False),
    turns=st.lists(st.integers(0, 5), max_size=120),
)
def test_threads_that_take_turns_in_any_order(
    limit: int,
    owners: Sequence[tuple[int, Verdict]],
    order: random.Random,
    turns: Sequence[int],
) -> None:
    simulation, broker = Simulation(), BrokersBooks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            settlement_module,
            "threading",
            SimpleNamespace(Condition=simulation.make_condition, RLock=simulation.make_lock),
        )
        settlement = Settlement(cast(LinkChannel, broker), "q", simulation.call_later)
        settlement.hold_up_to(limit)
        _deliver(broker, settlement, len(owners))
        mine: list[list[tuple[int, Verdict]]] = [[], [], [], []]
        for tag, (owner, verdict) in enumerate(owners, 1):
            mine[owner].append((tag, verdict))

        def settle(tags: Sequence[tuple[int, Verdict]]) -> None:
            for tag, verdict in tags:
                simulation.between("settle")
                broker.decide(tag, verdict)
                if tag % 3:
                    assert settlement.settle(tag, verdict)
                else:
                    settlement.claim(tag)
                    settlement.send(tag, verdict)

        def flush() -> None:
            for _ in range(5):
                simulation.between("flush")
                settlement.flush()

        for number, tags in enumerate(mine):
            order.shuffle(tags)
            Task(simulation, f"settles-{number}", partial(settle, tags)).start()
        Task(simulation, "flushes", flush).start()
        try:
            for turn in turns:
                ready = [task for task in simulation.tasks if task.can_go]
                if turn == 5:
                    simulation.advance(0.05)
                elif ready:
                    simulation.run(ready[turn % len(ready)], finely=True)
            simulation.run_all()
            simulation.advance(0.05)
        finally:
            simulation.end()
    assert not broker.outstanding
    assert settlement.open_count() == 0


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("seed", range(6))
def test_threads_that_nobody_directs(seed: int) -> None:
    count, at_once = 1_200, 60
    broker = BrokersBooks()
    timers: Queue[Callable[[], None]] = Queue()
    settlement = Settlement(cast(LinkChannel, broker), "q", lambda _delay, work: timers.put(work))
    settlement.hold_up_to(at_once // 3)
    waiting: Queue[int | None] = Queue()
    room = threading.Semaphore(at_once)
    failures: list[BaseException] = []

    def deliver() -> None:
        for tag in range(1, count + 1):
            assert room.acquire(timeout=10.0)
            broker.deliver(1)
            settlement.delivered(tag, tag)
            waiting.put(tag)
            while tag % 10 == 0 and not timers.empty():
                timers.get()()
        for _ in range(4):
            waiting.put(None)

    def handle(chance: random.Random) -> None:
        kept: list[int] = []
        tag: int | None = 0
        while tag is not None or kept:
            if tag is not None:
                tag = waiting.get(timeout=10.0)
            if tag is not None:
                settlement.start(make_delivery(tag))
                kept.append(tag)
            if kept and (tag is None or chance.random() < 0.5 or len(kept) > 5):
                mine = kept.pop(chance.randrange(len(kept)) if chance.random() < 0.2 else 0)
                verdict = Verdict.NACK_AND_REQUEUE if chance.random() < 0.1 else Verdict.ACK
                broker.decide(mine, verdict)
                assert settlement.settle(mine, verdict)
                room.release()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    works: list[Callable[[], None]] = [deliver]
    works += [partial(handle, random.Random(seed * 10 + number)) for number in range(4)]
    threads = [
        threading.Thread(target=guarded, args=(work,), name=f"work-{number}")
        for number, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not failures
    settlement.flush()
    assert not broker.outstanding
    assert len(broker.frames) < count, "acks left singly"


@pytest.mark.usefixtures("restless_threads")
def test_what_is_open_may_be_looked_at_while_callbacks_start() -> None:
    broker = BrokersBooks()
    settlement = Settlement(cast(LinkChannel, broker), "q")
    tags = broker.deliver(3_000)
    settlement.delivered(tags[0], tags[-1])
    settlement.start(make_delivery(tags[-1]))
    all_started = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not all_started.is_set():
                assert settlement.oldest() is not None
                settlement.claim(1, multiple=True)  # looks through all that are open
        except BaseException as error:
            failures.append(error)

    looking = threading.Thread(target=look, name="looks")
    looking.start()
    for tag in tags[:-1]:
        settlement.start(make_delivery(tag))
    all_started.set()
    looking.join(30.0)
    assert not failures
    assert not looking.is_alive()
