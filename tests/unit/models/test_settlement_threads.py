"""Threads that settle the deliveries of a channel, against the model of its broker."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.consumers import settlement as settlement_module
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.consumers.settlement import Outcome, Settlement
from neon_mq_connector.link import ChannelEvents, LinkChannel
from tests.unit.conftest import effort
from tests.unit.fakes import make_delivery, make_received
from tests.unit.models.broker import Broker, ModelChannel
from tests.unit.models.simulation import Simulation, Task

OUTCOMES = st.sampled_from([Outcome.ACK, Outcome.ACK, *Outcome])


def start(settlement: Settlement[ReceivedMessage], *tags: int) -> None:
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
    simulation = Simulation()
    broker = Broker(simulation)
    channel = ModelChannel(broker, ChannelEvents(deliveries=lambda _: None))
    channel.deliver([broker.send() for _ in owners], [""] * len(owners))
    decided: set[int] = set()

    def may_ack(_channel: ModelChannel, tags: list[int]) -> None:
        assert decided >= set(tags), f"{tags} are acknowledged and only {decided} may be"

    broker.may_ack = may_ack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settlement_module, "threading", simulation.threads)
        settlement: Settlement[ReceivedMessage] = Settlement(cast(LinkChannel, channel), "q")
        settlement.most_held = limit
        start(settlement, *channel.unacked)
        mine: list[list[tuple[int, Outcome]]] = [[], [], [], []]
        for tag, (owner, outcome) in enumerate(owners, 1):
            mine[owner].append((tag, outcome))

        def settle(tags: Sequence[tuple[int, Outcome]]) -> None:
            for tag, outcome in tags:
                simulation.between("settle")
                if outcome is Outcome.ACK:
                    decided.add(tag)
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
    broker.carry_out()
    for number, (_owner, outcome) in enumerate(owners, 1):
        message = broker.messages[number]
        is_acked, is_dropped = outcome is Outcome.ACK, outcome in (Outcome.NACK, Outcome.REJECT)
        assert (message.acked, message.dropped) == (is_acked, is_dropped)
    assert not channel.unacked
    assert settlement.open_count() == 0


@pytest.mark.usefixtures("restless_threads")
def test_what_is_open_may_be_looked_at_while_callbacks_start() -> None:
    settlement: Settlement[ReceivedMessage] = Settlement(Mock(), "q")
    start(settlement, 3_000)
    all_started = threading.Event()

    def look() -> None:
        while not all_started.is_set():
            assert settlement.oldest() is not None
            settlement.claim(1, multiple=True)  # looks through all that are open

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for tag in range(1, 3_000):
            settlement.start(make_received(make_delivery(tag)))
        all_started.set()
        looking.result(120.0)


def test_waiting_for_the_outcomes_ends_with_the_last_of_them() -> None:
    settlement: Settlement[ReceivedMessage] = Settlement(Mock(), "q")
    start(settlement, 1, 2)
    claimed = settlement.claim(0, multiple=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(settlement.wait_until_sent, 120.0)
        for each in claimed:
            assert not settlement.wait_until_sent(0.0)
            settlement.send(each, Outcome.ACK)
        assert waiting.result(120.0)
