"""A deadline on the monotonic clock, shared by all the steps of an operation."""

from __future__ import annotations

import time


def time_left(deadline: float) -> float:
    """Return how much time is left.

    Args:
        deadline: a moment on the monotonic clock, in seconds.

    Returns:
        Seconds; 0 when it is past.
    """
    return max(0.0, deadline - time.monotonic())
