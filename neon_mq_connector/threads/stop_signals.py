"""Wait for SIGTERM or SIGINT. The handler counts and sets a flag; whoever waits does the rest."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_PAUSE = 0.25


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
        self._never = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Begin to handle them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back to whoever handled them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Wait for the first signal."""
        while not self._count:
            # nobody sets an event: to set one in a handler may block when it interrupts this wait
            self._never.wait(_PAUSE)

    def wait_for_second(self, thread: threading.Thread, timeout: float) -> None:
        """Wait for a thread to end, unless there is a second signal.

        Args:
            thread: what does the stopping.
            timeout: how long to wait at most, in seconds.
        """
        waited = 0.0
        while thread.is_alive() and self._count < 2 and waited < timeout:
            thread.join(_PAUSE)
            waited += _PAUSE

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._count += 1
        self._on_signal()
