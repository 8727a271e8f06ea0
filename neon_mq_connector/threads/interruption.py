"""Whether a signal handler may interrupt the thread that asks.

Python runs handlers on the main thread, between two steps of whatever it does there.
"""

from __future__ import annotations

import signal
import threading
import time

#: Signals that programs handle; of one that is not here a handler is not found.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in (
        "SIGTERM",
        "SIGINT",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGCHLD",
        "SIGPROF",
        "SIGVTALRM",
    )
    if hasattr(signal, name)
)
_NONE = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)


#: How long an answer holds, in seconds: to look costs as much as to send a message.
_HOLDS = 0.1


class _Answer:
    """What was found last, by the main thread."""

    until = 0.0
    found = False


def handlers_may_interrupt() -> bool:
    """Say whether the calling thread is the main thread, and a signal is handled by the program.

    The handler that raises `KeyboardInterrupt` does not count: nothing goes on behind it. A handler
    is noticed within 0.1 s.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return False
    now = time.monotonic()
    if now >= _Answer.until:
        _Answer.found = any(signal.getsignal(number) not in _NONE for number in _SIGNALS)
        _Answer.until = now + _HOLDS
    return _Answer.found
