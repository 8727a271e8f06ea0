"""One answer from one thread to another."""

from __future__ import annotations

import threading

import pytest

from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.link.waiter import Waiter


def test_the_result_is_what_was_given() -> None:
    waiter: Waiter[str] = Waiter()
    assert waiter.resolve("there")
    assert waiter.wait(0, "it") == "there"


def test_none_is_a_result_too() -> None:
    waiter: Waiter[None] = Waiter()
    waiter.resolve(None)
    assert waiter.wait(1, "it") is None


def test_an_exception_is_raised_where_it_is_waited_for() -> None:
    waiter: Waiter[str] = Waiter()
    error = StoppedError("stopped")
    assert waiter.fail(error)
    with pytest.raises(StoppedError) as caught:
        waiter.wait(1, "it")
    assert caught.value is error


def test_only_the_first_answer_counts_and_the_others_are_told() -> None:
    waiter: Waiter[int] = Waiter()
    assert waiter.resolve(1)
    assert not waiter.resolve(2)
    assert not waiter.fail(ValueError())
    assert waiter.wait(1, "it") == 1


def test_who_answers_too_late_is_told() -> None:
    waiter: Waiter[int] = Waiter()
    with pytest.raises(WaitTimeoutError, match=r"opening a channel: no answer within 0.05 s"):
        waiter.wait(0.05, "opening a channel")
    assert not waiter.resolve(1)


def test_a_negative_time_is_none() -> None:
    with pytest.raises(WaitTimeoutError):
        Waiter().wait(-5, "it")


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
