"""What a signal handler may use: a flag to set, and SIGTERM and SIGINT as reasons to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from neon_mq_connector.deadline import time_left

_PAUSE, _LOOK_AGAIN = 0.25, 0.05


class Flag:
    """An event that a signal handler may set; any thread may set it and wait for it.

    `threading.Event` has a lock that a waiting thread holds for moments. A handler that interrupts
    it in such a moment, and sets the event, waits for ever.
    """

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it; a second time does no harm."""
        self._is_set = True

    def clear(self) -> None:
        """Reset it."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Wait for at most so many seconds until it is set; return whether it is."""
        deadline = time.monotonic() + timeout
        while not self._is_set and (left := time_left(deadline)):
            time.sleep(min(_LOOK_AGAIN, left))
        return self._is_set


class StopSignals:
    """Handle the two signals inside a ``with`` block, in the main thread.

    Args:
        on_signal: called in the handler, at any moment.

    Attributes:
        received: the name of the signal that came last.
    """

    def __init__(self, on_signal: Callable[[], object] = lambda: None) -> None:
        self.received = ""
        self._on_signal = on_signal
        self._count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Begin to handle them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Wait for the first signal."""
        while not self._count:
            time.sleep(_PAUSE)

    def wait_for_second(self, thread: threading.Thread, timeout: float) -> None:
        """Wait for a thread to end, for at most so many seconds or until a second signal."""
        deadline = time.monotonic() + timeout
        while thread.is_alive() and self._count < 2 and time_left(deadline):
            thread.join(_PAUSE)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._count += 1
        self._on_signal()
