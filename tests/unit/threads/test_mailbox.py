"""Handing over to another thread, with signal handlers in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty
from types import FrameType

import pytest

from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.threads.mailbox import Mailbox


def test_many_hands_take_each_item_once() -> None:
    mailbox: Mailbox[int | None] = Mailbox()

    def give(first: int) -> None:
        for number in range(first, first + 2000):
            mailbox.put(number)

    def take(_number: int) -> list[int]:
        return list(iter(lambda: mailbox.get(timeout=120.0), None))

    with ThreadPoolExecutor(8) as pool:
        taken = pool.map(take, range(4))
        assert list(pool.map(give, range(0, 8000, 2000))) == [None] * 4
        for _ in range(4):
            mailbox.put(None)
        assert sorted(item for mine in taken for item in mine) == list(range(8000))


@pytest.fixture
def slow_alarm() -> Iterator[None]:
    """Have a signal handler run from before a time-out ends until after it."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("slow_alarm")
@pytest.mark.parametrize(
    "wait, error",
    [
        (lambda: Mailbox[int]().get(timeout=0.05), Empty),
        (lambda: Waiter[None]().wait(0.05, "it"), WaitTimeoutError),
    ],
    ids=["an item", "an answer"],
)
def test_a_time_out_ends_though_a_signal_handler_ran_over_it(
    wait: Callable[[], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        wait()


def test_a_signal_handler_may_give_what_it_interrupts_the_wait_for() -> None:
    mailbox: Mailbox[int] = Mailbox()
    before = signal.signal(signal.SIGALRM, lambda *_: mailbox.put(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        for _ in range(200):
            assert mailbox.get(timeout=120.0) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_answer_that_races_with_the_timeout_is_either_taken_or_refused() -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(50):
            waiter: Waiter[int] = Waiter()
            accepted = pool.submit(waiter.resolve, 7)
            try:
                taken = waiter.wait(0.0001, "it") == 7
            except WaitTimeoutError:
                taken = False
            assert accepted.result(120.0) is taken
