"""Wait for Ctrl-C, SIGTERM or the end of the terminal, and end in good order on any."""

from __future__ import annotations

import signal
import threading
from typing import Any

from neon_mq_connector.threads.signals import Flag

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest(Flag):
    """A flag that a signal sets inside a ``with`` block; any thread may set it, too.

    The first signal only asks. The second one does what it does by default, for the case that
    something hangs. Handlers are put back when the block is left.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._on_signal) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def _on_signal(self, *_: object) -> None:
        self.set()
        self.__exit__()
