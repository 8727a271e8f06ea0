"""Calling again and again."""

from __future__ import annotations

import logging

import pytest

from neon_mq_connector.threads.on_demand import RepeatingTimer
from tests.support.polling import eventually


def test_it_calls_with_its_arguments_until_it_is_cancelled_though_a_call_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[tuple[int, str]] = []

    def call(a: int, b: str) -> None:
        calls.append((a, b))
        raise ValueError("boom")

    timer = RepeatingTimer(0.01, call, (1,), {"b": "two"})
    timer.name = "the timer"
    with caplog.at_level(logging.ERROR, logger="neon_mq_connector"):
        timer.start()
        eventually(lambda: len(calls) >= 3)
        timer.cancel()
        timer.join(120.0)
    assert not timer.is_alive()
    assert set(calls) == {(1, "two")}
    assert "the timer" in caplog.text
    assert "boom" in caplog.text


def test_cancelled_before_its_start_it_never_calls() -> None:
    calls: list[int] = []
    timer = RepeatingTimer(0.01, calls.append, (1,))
    timer.cancel()
    timer.start()
    timer.join(120.0)
    assert not calls


def test_it_can_be_cancelled_from_its_own_call() -> None:
    calls: list[int] = []

    def once() -> None:
        calls.append(1)
        timer.cancel()

    timer = RepeatingTimer(0.01, once)
    timer.start()
    timer.join(120.0)
    assert calls == [1]
