"""Counting down."""

from __future__ import annotations

import time

from neon_mq_connector.deadline import time_left


def test_what_is_left_never_grows_and_never_is_less_than_nothing() -> None:
    deadline = time.monotonic() + 0.05
    before = time_left(deadline)
    assert 0 < before <= 0.05
    while time_left(deadline):
        assert time_left(deadline) <= before
    assert time_left(deadline) == 0.0


def test_a_deadline_long_past_leaves_nothing() -> None:
    assert time_left(time.monotonic() - 1_000) == 0.0
