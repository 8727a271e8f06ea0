"""Waiting for something to become true, with a deadline; tests never just sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T], *, timeout: float = 120.0, interval: float = 0.02, what: str = ""
) -> T:
    """Call until the answer is true, and return that answer.

    An `AssertionError` counts as "not yet". `what` is what the error says that is waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            answer = probe()
        except AssertionError:
            if late:
                raise
        else:
            if answer:
                return answer
            if late:
                name = what or getattr(probe, "__name__", repr(probe))
                raise AssertionError(f"not within {timeout} s: {name} (last answer: {answer!r})")
        time.sleep(interval)


def never(
    probe: Callable[[], object], *, during: float = 0.5, interval: float = 0.02, what: str = ""
) -> None:
    """Check that something stays false for a while."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        answer = probe()
        name = what or getattr(probe, "__name__", repr(probe))
        assert not answer, f"must not happen: {name} (answer: {answer!r})"
        time.sleep(interval)
