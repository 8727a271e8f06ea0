"""Declaring where the broker refuses: what no broker of the other tests does."""

from __future__ import annotations

from typing import Any

import pytest
from pika.spec import INTERNAL_ERROR, PRECONDITION_FAILED

from neon_mq_connector.topology import (
    TRANSIENT_REFUSED,
    BrokerFacts,
    Exchange,
    Queue,
    QueueStatus,
    Refusal,
    Step,
    declare_exchange,
    declare_queue,
    drive_steps,
)


@pytest.mark.parametrize("code", TRANSIENT_REFUSED)
def test_a_transient_queue_that_is_refused_is_made_durable_and_the_next_one_at_once(
    code: int,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def perform(step: Step) -> QueueStatus:
        asked.append(step.args[:3])
        name, _passive, durable = step.args[:3]
        if not durable:
            raise Refusal(code, "transient_nonexcl_queues is deprecated")
        return QueueStatus(name)

    facts = BrokerFacts()
    for name in ("a", "b"):
        assert drive_steps(declare_queue(Queue(name), facts), perform) == QueueStatus(name)
    assert asked == [("a", False, False), ("a", False, True), ("b", False, True)]


def test_what_exists_with_other_properties_is_used_as_it_is_if_it_is_not_exclusive() -> None:
    def perform(step: Step) -> QueueStatus:
        name, passive = step.args[:2]
        if not passive:
            raise Refusal(PRECONDITION_FAILED, "inequivalent arg 'durable'")
        return QueueStatus(name)

    adopted = QueueStatus("a", adopted=True)
    for knows in (True, False):
        steps = declare_queue(Queue("a"), BrokerFacts(knows))
        assert drive_steps(steps, perform) == adopted
    assert drive_steps(declare_exchange(Exchange("x")), perform) == QueueStatus("")
    with pytest.raises(Refusal):  # an exclusive queue of another is of no use
        drive_steps(declare_queue(Queue("a", exclusive=True), BrokerFacts()), perform)


def test_a_broken_durable_declare_is_not_taken_for_a_refusal_of_transient_queues() -> None:
    def broken(_step: Any) -> None:
        raise Refusal(INTERNAL_ERROR, "the disk is gone")

    facts = BrokerFacts()
    with pytest.raises(Refusal, match="the disk is gone"):
        drive_steps(declare_queue(Queue("a", durable=True), facts), broken)
    assert not facts.refuses_transient_queues
