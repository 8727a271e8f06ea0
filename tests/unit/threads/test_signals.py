"""An event that may be set in a signal handler."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from neon_mq_connector.threads.signals import Flag


def test_it_is_set_and_set_back() -> None:
    flag = Flag()
    assert not flag.wait(0.01)
    flag.set()
    flag.set()
    assert flag.is_set()
    assert flag.wait(0)
    flag.clear()
    began = time.monotonic()
    assert not flag.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_all_who_wait_are_woken() -> None:
    flag = Flag()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(flag.wait(30.0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    flag.set()
    for thread in threads:
        thread.join(30.0)
    assert woken == [True] * 4


def test_a_signal_handler_may_set_it_while_it_is_waited_for() -> None:
    flag = Flag()

    def handler(_number: int, _frame: FrameType | None) -> None:
        flag.set()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(200):
            assert flag.wait(30.0)
            flag.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
