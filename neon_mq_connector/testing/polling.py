"""Wait for something to become true, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

#: Seconds within which a service is expected to do what a test waits for, unless the test says.
PATIENCE = 5.0
_INTERVAL = 0.02


def poll(
    look: Callable[[], Answer], is_enough: Callable[[Answer], object], timeout: float = PATIENCE
) -> Answer:
    """Call a function until its result is enough, or the time is up.

    Args:
        look: the function.
        is_enough: whether a result ends the wait.
        timeout: seconds; with 0 it is called once.

    Returns:
        The last result.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if is_enough(seen) or time.monotonic() >= deadline:
            return seen
        time.sleep(_INTERVAL)
