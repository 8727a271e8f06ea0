"""SIGTERM and SIGINT on an asyncio loop: wait for them, and run something until then."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class LoopSignals:
    """Handle the two signals inside a ``with`` block, on the running loop.

    The handlers of before are restored afterwards, except those of the loop itself: a loop does not
    tell which it had.

    Attributes:
        received: the name of the first signal; empty before it.
        first: set by the first signal.
        second: set by the second.
    """

    def __init__(self) -> None:
        self.received = ""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> LoopSignals:
        """Begin to handle them.

        Raises:
            RuntimeError: the loop does not run in the main thread, which alone gets signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "signals can be waited for in the main thread only; in another one use `async "
                "with` and wait for something else"
            )
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            before = signal.getsignal(number)
            loop.add_signal_handler(number, self._handle, number)
            self._before[number] = before
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # or else it was not installed from Python
                signal.signal(number, handler)

    def _handle(self, number: signal.Signals) -> None:
        if self.received:
            self.second.set()
        else:
            self.received = number.name
            self.first.set()


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Run a coroutine, and cancel it if an event is set before it ends.

    Returns:
        Whether it has ended by itself.
    """
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.wait((doing, waiting))
    if doing.cancelled():
        return False
    doing.result()
    return True
