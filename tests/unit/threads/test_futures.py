"""Futures end in time, their callbacks run elsewhere, and cancelling wakes whoever waits."""

from __future__ import annotations

import threading
import time

from neon_mq_connector.threads.futures import FutureThread
from tests.support.polling import eventually


class Ending:
    """Notes when it ended."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.ended: list[float] = []

    def expire(self) -> None:
        self.ended.append(time.monotonic())


def test_each_ends_once_after_its_deadline_in_order_unless_it_is_forgotten() -> None:
    thread = FutureThread("mq-futures:test")
    every = [Ending(seconds) for seconds in (0.3, 0.1, 0.2)]
    forgotten = Ending(0.05)
    go_on = threading.Event()
    thread.call(lambda: go_on.wait(120.0))  # none ends before one of them is forgotten
    for each in (*every, forgotten):
        thread.expect(each)
    thread.forget(forgotten)
    go_on.set()
    eventually(lambda: all(each.ended for each in every))
    assert all(each.ended[0] >= each.deadline and len(each.ended) == 1 for each in every)
    assert sorted(every, key=lambda each: each.ended) == [every[1], every[2], every[0]]
    assert not forgotten.ended
    assert thread.stop(120.0)


def test_what_was_to_be_called_is_called_before_the_end() -> None:
    thread, called = FutureThread("mq-futures:test"), []
    for number in range(100):
        thread.call(lambda number=number: called.append(number))  # type: ignore[misc]
    assert thread.stop(120.0)
    assert called == list(range(100))
