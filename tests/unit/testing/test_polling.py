"""Waiting with a deadline."""

from __future__ import annotations

import pytest

from tests.support.polling import eventually, never


def test_the_first_true_answer_is_returned() -> None:
    answers = iter([0, None, "", "there"])
    assert eventually(lambda: next(answers), interval=0) == "there"


def test_a_failing_assertion_counts_as_not_yet() -> None:
    tries: list[int] = []

    def probe() -> bool:
        tries.append(1)
        assert len(tries) > 2
        return True

    assert eventually(probe, interval=0)


def test_the_error_says_what_was_waited_for_and_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the moon \(last answer: 0\)"):
        eventually(lambda: 0, timeout=0.05, what="the moon")


def test_never_fails_as_soon_as_it_happens() -> None:
    answers = iter([0, 0, "boom"])
    with pytest.raises(AssertionError, match="must not happen: noise"):
        never(lambda: next(answers), interval=0, what="noise")
    never(lambda: False, during=0.05)
