"""Sequences that the models have found, kept as plain tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neon_mq_connector.consumers.registration import AckMode
from neon_mq_connector.errors import PublishLostError
from tests.unit.models.bench import Bench, register

Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        bench = Bench(register(**options))
        made.append(bench)
        bench.run_until_all_wait()
        return bench

    yield make
    for bench in made:
        bench.close()


def test_a_message_that_cannot_be_parked_while_the_consumer_pauses_does_not_end_it(
    make: Make,
) -> None:
    bench = make(attempts=1)
    bench.send(["publish"])
    bench.run_until_all_wait()
    bench.broker.publisher.parking = "fails"
    bench.broker.lose(comes_back=False)
    bench.simulation.run_all()
    bench.fail_publish(PublishLostError("gone as well", may_have_arrived=True))
    bench.run_until_all_wait()
    bench.expect_recovery()
    bench.expect_end()


def test_a_message_acked_on_receipt_that_could_not_be_parked_is_parked_at_the_stop(
    make: Make,
) -> None:
    bench = make(ack=AckMode.ON_RECEIPT)
    bench.broker.publisher.parking = "fails"
    bench.send(["raise"])
    bench.run_until_all_wait()
    bench.broker.publisher.parking = "works"
    bench.expect_end()
    assert bench.broker.messages[1].parked == 1


def test_a_publish_that_fails_while_its_consumer_stops_does_not_hold_up_the_stop(
    make: Make,
) -> None:
    bench = make(attempts=3)
    bench.send(["publish"])
    bench.run_until_all_wait()
    bench.stop()
    bench.run_until_all_wait()
    bench.fail_publish(PublishLostError("gone", may_have_arrived=True))
    bench.run_until_all_wait()
    bench.advance(0.2)  # it looks ten times a second
    bench.run_until_all_wait()
    assert bench.task.is_over, bench.task.where
    bench.expect_end()


def test_an_ack_that_was_handed_to_the_consumers_thread_before_a_stop_is_sent(make: Make) -> None:
    bench = make(ack=AckMode.MANUAL)
    bench.send(["ack from the consumer's thread", "wait"])
    bench.run_until_all_wait()
    bench.expect_end()
    assert bench.broker.messages[1].acked == 1


def test_an_ack_of_all_may_cover_a_message_that_is_started_meanwhile(make: Make) -> None:
    bench = make(ack=AckMode.MANUAL, concurrency=2, prefetch_count=6)
    bench.send(["ack all"])
    bench.send([])
    bench.broker.deliver(2)
    _consumer, first, second = bench.simulation.tasks
    while not bench.acks_of_many:  # it stands where it is about to look what is open
        bench.simulation.run(first, finely=True)
    bench.simulation.run(second)
    assert bench.starts == {1: 1, 2: 1}
    bench.run_until_all_wait()
    bench.advance(0.05)
    bench.run_until_all_wait()
    assert [message.acked for message in bench.broker.messages.values()] == [1, 1]
    bench.expect_recovery()
    bench.expect_end()
