"""An event that may be set in a signal handler."""

from __future__ import annotations

import signal
from types import FrameType

from neon_mq_connector.threads.signals import Flag


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
