"""Wait for Ctrl-C, SIGTERM or the end of the terminal, and end in good order on any."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Note that the command is to end: a signal came, or `set` was called.

    The first signal only asks. The second one does what it does by default, for the case that
    something hangs. Handlers are put back when the block is left.
    """

    def __init__(self) -> None:
        self._asked = False
        self._wake = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._on_signal) for each in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def is_set(self) -> bool:
        """Whether the command is to end."""
        return self._asked or self._wake.is_set()

    def set(self) -> None:
        """Ask for the end, from any thread."""
        self._wake.set()

    def wait(self, timeout: float) -> bool:
        """Wait for the end to be asked for.

        Args:
            timeout: how long at most, in seconds; a signal is noticed within it.

        Returns:
            Whether it was asked for.
        """
        if not self._asked:
            self._wake.wait(timeout)
        return self.is_set

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # not the event: the thread that runs this may be inside of it, holding its lock
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
