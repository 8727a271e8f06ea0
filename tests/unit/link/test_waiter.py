"""One answer from one thread to another."""

from __future__ import annotations

import threading

import pytest

from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link.waiter import Waiter


@pytest.mark.parametrize("_round", range(50))
def test_an_answer_that_races_with_the_timeout_is_either_taken_or_refused(_round: int) -> None:
    waiter: Waiter[int] = Waiter()
    accepted: list[bool] = []
    answering = threading.Thread(target=lambda: accepted.append(waiter.resolve(7)))
    answering.start()
    try:
        taken = waiter.wait(0.0001, "it") == 7
    except WaitTimeoutError:
        taken = False
    answering.join(30.0)
    assert accepted == [taken]


@pytest.mark.parametrize("_round", range(20))
def test_of_many_answers_at_once_exactly_one_is_the_first(_round: int) -> None:
    waiter: Waiter[int] = Waiter()
    barrier = threading.Barrier(8)
    first: list[int] = []

    def answer(number: int) -> None:
        barrier.wait(30.0)
        if waiter.resolve(number):
            first.append(number)

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert [waiter.wait(1, "it")] == first
