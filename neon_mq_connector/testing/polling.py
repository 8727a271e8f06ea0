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
    """Look again and again until what is seen is enough, or the time is up.

    Args:
        look: looks once.
        is_enough: whether what was seen ends the wait.
        timeout: seconds; with 0 it looks once.

    Returns:
        What was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if is_enough(seen) or time.monotonic() >= deadline:
            return seen
        time.sleep(_INTERVAL)
