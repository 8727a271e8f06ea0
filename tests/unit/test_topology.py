"""Declaring on any broker: the generators against a model of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pika.spec import (
    INTERNAL_ERROR,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
)

from neon_mq_connector.topology import (
    BrokerFacts,
    Exchange,
    Queue,
    QueueStatus,
    Refusal,
    Step,
    attach,
    declare_queue,
    drive_steps,
)


@dataclass
class BrokerModel:
    """Answer steps as RabbitMQ does.

    Attributes:
        refuses_transient: whether transient non-exclusive queues are refused.
        refusal_code: with what (541, or 540).
        asked: every step, in order.
    """

    refuses_transient: bool = False
    refusal_code: int = INTERNAL_ERROR
    queues: dict[str, Queue] = field(default_factory=dict)
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    bindings: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[Step] = field(default_factory=list)

    def perform(self, step: Step) -> QueueStatus | None:
        self.asked.append(step)
        status: QueueStatus | None = getattr(self, step.method)(*step.args)
        return status

    def queue_delete(self, queue: str) -> None:
        self.queues.pop(queue, None)
        self.bindings = {b for b in self.bindings if b[0] != queue}

    def exchange_delete(self, exchange: str) -> None:
        self.exchanges.pop(exchange, None)
        self.bindings = {b for b in self.bindings if b[1] != exchange}

    def queue_declare(
        self, name: str, passive: bool, durable: bool, own: bool, auto_delete: bool, arguments: Any
    ) -> QueueStatus:
        queue = Queue(name, durable, own, auto_delete, arguments or {})
        existing = self.queues.get(queue.name)
        if passive:
            if existing is None:
                raise Refusal(NOT_FOUND, f"no queue {queue.name!r}")
            return QueueStatus(queue.name)
        if existing is not None:
            if existing.exclusive != queue.exclusive:
                raise Refusal(RESOURCE_LOCKED, f"cannot obtain exclusive access to {queue.name!r}")
            if existing != queue:
                raise Refusal(PRECONDITION_FAILED, f"inequivalent arg for {queue.name!r}")
            return QueueStatus(queue.name)
        if queue.transient and self.refuses_transient:
            raise Refusal(self.refusal_code, "transient_nonexcl_queues is deprecated")
        name = name or f"amq.gen-{len(self.queues)}"
        self.queues[name] = queue
        return QueueStatus(name)

    def exchange_declare(self, exchange: str, exchange_type: str, passive: bool) -> None:
        asked, existing = Exchange(exchange, exchange_type), self.exchanges.get(exchange)
        if passive and existing is None:
            raise Refusal(NOT_FOUND, f"no exchange {exchange!r}")
        if not passive and existing not in (None, asked):
            raise Refusal(PRECONDITION_FAILED, f"inequivalent arg for {exchange!r}")
        self.exchanges[exchange] = existing or asked

    def queue_bind(self, queue: str, exchange: str, routing_key: str) -> None:
        if queue not in self.queues or exchange not in self.exchanges:
            raise Refusal(NOT_FOUND, f"cannot bind {queue!r} to {exchange!r}")
        self.bindings.add((queue, exchange, routing_key))


NAMES = st.sampled_from(["a", "b", "c"])
QUEUES = st.builds(
    Queue,
    name=NAMES,
    durable=st.booleans(),
    exclusive=st.booleans(),
    auto_delete=st.booleans(),
    arguments=st.sampled_from([{}, {"x-queue-type": "quorum"}, {"x-expires": 1000}]),
)
EXCHANGES = st.builds(
    Exchange,
    name=st.sampled_from(["x", "y"]),
    type=st.sampled_from(["direct", "fanout", "topic", "headers"]),
)
BROKERS = st.builds(
    BrokerModel,
    refuses_transient=st.booleans(),
    refusal_code=st.sampled_from([INTERNAL_ERROR, NOT_IMPLEMENTED]),
)


def made(broker: BrokerModel, *there: Queue | Exchange) -> BrokerModel:
    """Put queues and exchanges there, whether or not the broker would take them today."""
    for each in there:
        if isinstance(each, Queue):
            broker.queues[each.name] = each
        else:
            broker.exchanges[each.name] = each
    return broker


def is_taken(broker: BrokerModel, wanted: Queue) -> bool:
    """Whether there is another queue of the name that cannot be used instead."""
    there = broker.queues.get(wanted.name, wanted)
    return there != wanted and (there.exclusive or wanted.exclusive)


@given(broker=BROKERS, wanted=st.lists(QUEUES, min_size=1, max_size=8), there=st.lists(QUEUES))
def test_every_queue_that_is_wanted_and_not_anothers_is_there_afterwards_on_any_broker(
    broker: BrokerModel, wanted: list[Queue], there: list[Queue]
) -> None:
    made(broker, *there)
    before = dict(broker.queues)
    facts = BrokerFacts()
    for queue in wanted:
        knew = facts.refuses_transient_queues
        asked = len(broker.asked)
        if is_taken(broker, queue):
            with pytest.raises(Refusal, match=f"'{queue.name}'"):
                drive_steps(declare_queue(queue, facts), broker.perform)
            continue
        status = drive_steps(declare_queue(queue, facts), broker.perform)
        assert status.name == queue.name
        is_there = broker.queues[queue.name]
        assert status.adopted or is_there == queue or is_there == _durable(queue)
        steps = broker.asked[asked:]
        assert len(steps) <= 3
        if knew:  # a refusal costs the connection: it is not asked for again
            declares = [s.args for s in steps if s.method == "queue_declare"]
            assert all(any(flags[:3]) for _, *flags in declares)
    # what was there before is as it was
    assert {name: broker.queues[name] for name in before} == before
    if facts.refuses_transient_queues:
        assert broker.refuses_transient


def _durable(queue: Queue) -> Queue:
    return replace(queue, durable=True)


@pytest.mark.parametrize("knows", [True, False])
def test_a_transient_queue_that_survived_is_adopted_where_new_ones_are_refused(
    knows: bool,
) -> None:
    broker = made(BrokerModel(refuses_transient=True), Queue("a"))
    status = drive_steps(declare_queue(Queue("a", True), BrokerFacts(knows)), broker.perform)
    assert status.adopted


def test_a_broken_durable_declare_is_not_taken_for_a_refusal_of_transient_queues() -> None:
    def broken(_step: Any) -> None:
        raise Refusal(INTERNAL_ERROR, "the disk is gone")

    facts = BrokerFacts()
    with pytest.raises(Refusal, match="the disk is gone"):
        drive_steps(declare_queue(Queue("a", durable=True), facts), broken)
    assert not facts.refuses_transient_queues


@given(
    broker=BROKERS,
    queue=QUEUES,
    exchange=st.one_of(st.none(), EXCHANGES),
    keys=st.lists(st.sampled_from(["k1", "k2", "#"]), unique=True).map(tuple),
    queue_reset=st.booleans(),
    exchange_reset=st.booleans(),
    there=st.lists(st.one_of(QUEUES, EXCHANGES)),
)
def test_after_attaching_the_queue_is_there_and_bound(
    broker: BrokerModel,
    queue: Queue,
    exchange: Exchange | None,
    keys: tuple[str, ...],
    queue_reset: bool,
    exchange_reset: bool,
    there: list[Queue | Exchange],
) -> None:
    made(broker, *there)
    assume(queue_reset or not is_taken(broker, queue))
    before = dict(broker.exchanges)
    steps = attach(
        queue,
        exchange,
        keys,
        BrokerFacts(),
        queue_reset=queue_reset,
        exchange_reset=exchange_reset,
    )
    status = drive_steps(steps, broker.perform)
    assert status.name in broker.queues
    if queue_reset:
        assert broker.queues[queue.name] in (queue, _durable(queue))
    if exchange is None:
        assert not broker.bindings
        assert not any(s.method.startswith("exchange_") for s in broker.asked)
    else:
        expected = {(status.name, exchange.name, key) for key in keys or (status.name,)}
        assert broker.bindings == expected
        # one that exists with other properties is used as it is
        used = exchange if exchange_reset else before.get(exchange.name, exchange)
        assert broker.exchanges[exchange.name] == used
    assert any(s.method == "queue_delete" for s in broker.asked) is queue_reset
