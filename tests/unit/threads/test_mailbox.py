"""Handing items from thread to thread, with signal handlers in between."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from queue import Empty
from types import FrameType

import pytest

from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.threads.mailbox import Mailbox


@pytest.mark.parametrize("round_number", range(5))
def test_many_hands_take_each_item_once(round_number: int) -> None:
    mailbox: Mailbox[int | None] = Mailbox()
    taken: list[list[int]] = [[] for _ in range(4)]

    def give(first: int) -> None:
        for number in range(first, first + 1000):
            mailbox.put(number)

    def take(mine: list[int]) -> None:
        while (item := mailbox.get(timeout=20.0)) is not None:
            mine.append(item)

    takers = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    givers = [threading.Thread(target=give, args=(n * 1000,)) for n in range(4)]
    for thread in takers + givers:
        thread.start()
    for thread in givers:
        thread.join()
    for _ in takers:
        mailbox.put(None)
    for thread in takers:
        thread.join(30.0)
    assert sorted(item for mine in taken for item in mine) == list(range(4000))


@pytest.fixture
def slow_alarm() -> Iterator[None]:
    """Have a signal handler run from before a time-out ends until after it."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("slow_alarm")
def test_a_time_out_ends_though_a_signal_handler_ran_over_it() -> None:
    mailbox: Mailbox[int] = Mailbox()
    with pytest.raises(Empty):
        mailbox.get(timeout=0.2)


@pytest.mark.usefixtures("slow_alarm")
def test_a_wait_for_an_answer_ends_though_a_signal_handler_ran_over_it() -> None:
    with pytest.raises(WaitTimeoutError):
        Waiter[None]().wait(0.2, "it")


def test_a_signal_handler_may_use_the_mailbox_it_interrupts() -> None:
    mailbox: Mailbox[int] = Mailbox()

    def handler(_number: int, _frame: FrameType | None) -> None:
        mailbox.put(1)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        for _ in range(200):
            assert mailbox.get(timeout=20.0) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
