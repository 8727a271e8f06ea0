"""Threads that settle the deliveries of a channel, against the books that its broker keeps."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.consumers import settlement as settlement_module
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.consumers.settlement import Outcome, Settlement
from neon_mq_connector.link import LinkChannel
from tests.unit.fakes import make_delivery, make_received
from tests.unit.models.effort import effort
from tests.unit.models.simulation import Simulation, Task

REFUSALS = {
    Outcome.REJECT: ("reject", False),
    Outcome.REJECT_AND_REQUEUE: ("reject", True),
    Outcome.NACK: ("nack", False),
    Outcome.NACK_AND_REQUEUE: ("nack", True),
}
OUTCOMES = st.sampled_from([Outcome.ACK, Outcome.ACK, Outcome.ACK, *REFUSALS])


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
        self._last_tag = 0
        self._lock = threading.Lock()

    def deliver(self, count: int) -> list[int]:
        """Deliver some messages; gives their tags."""
        with self._lock:
            tags = list(range(self._last_tag + 1, self._last_tag + count + 1))
            self._last_tag += count
            self.outstanding.update(tags)
        return tags

    def decide(self, tag: int, outcome: Outcome) -> None:
        """Note what the owner of a delivery is about to say of it."""
        if outcome is Outcome.ACK:
            self.acked.add(tag)
        else:
            self.refusals[tag] = REFUSALS[outcome]

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
        assert tag in self.outstanding, f"{kind} of {tag}: settled twice, or never delivered"
        self.frames.append((kind, tag, flag))


def _deliver(broker: BrokersBooks, settlement: Settlement[ReceivedMessage], count: int) -> None:
    tags = broker.deliver(count)
    settlement.delivered(tags[0], tags[-1])
    for tag in tags:
        settlement.start(make_received(make_delivery(tag)))


@effort(examples=150)
@given(
    limit=st.integers(2, 6),
    owners=st.lists(st.tuples(st.integers(0, 3), OUTCOMES), min_size=1, max_size=16),
    order=st.randoms(use_true_random=False),
    turns=st.lists(st.integers(0, 5), max_size=120),
)
def test_threads_that_take_turns_in_any_order(
    limit: int,
    owners: Sequence[tuple[int, Outcome]],
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
        settlement: Settlement[ReceivedMessage] = Settlement(
            cast(LinkChannel, broker), "q", simulation.call_later
        )
        settlement.hold_up_to(limit)
        _deliver(broker, settlement, len(owners))
        mine: list[list[tuple[int, Outcome]]] = [[], [], [], []]
        for tag, (owner, outcome) in enumerate(owners, 1):
            mine[owner].append((tag, outcome))

        def settle(tags: Sequence[tuple[int, Outcome]]) -> None:
            for tag, outcome in tags:
                simulation.between("settle")
                broker.decide(tag, outcome)
                if tag % 3:
                    assert settlement.settle(tag, outcome)
                else:
                    (message,) = settlement.claim(tag)
                    settlement.send(message, outcome)

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
def test_what_is_open_may_be_looked_at_while_callbacks_start() -> None:
    broker = BrokersBooks()
    settlement: Settlement[ReceivedMessage] = Settlement(
        cast(LinkChannel, broker), "q", lambda *_: None
    )
    tags = broker.deliver(3_000)
    settlement.delivered(tags[0], tags[-1])
    settlement.start(make_received(make_delivery(tags[-1])))
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
        settlement.start(make_received(make_delivery(tag)))
    all_started.set()
    looking.join(30.0)
    assert not failures
    assert not looking.is_alive()


def test_waiting_for_the_outcomes_ends_with_the_last_of_them() -> None:
    broker = BrokersBooks()
    settlement: Settlement[ReceivedMessage] = Settlement(
        cast(LinkChannel, broker), "q", lambda *_: None
    )
    _deliver(broker, settlement, 2)
    claimed = settlement.claim(0, multiple=True)
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(settlement.wait_until_sent(30.0)))
    waiting.start()
    for each in claimed:
        assert not settlement.wait_until_sent(0.0)
        broker.decide(each.tag, Outcome.ACK)
        settlement.send(each, Outcome.ACK)
    waiting.join(30.0)
    assert answers == [True]
