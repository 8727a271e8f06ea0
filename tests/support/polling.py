"""Waiting for something to become true, with a deadline; tests never just sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T], *, timeout: float = 30.0, interval: float = 0.02, what: str = ""
) -> T:
    """Call until the answer is true, and return that answer.

    Args:
        probe: asked again and again; an `AssertionError` from it counts as "not yet".
        timeout: seconds after which waiting is over.
        interval: seconds between two calls.
        what: what is waited for, as the error says it; the probe's own name by default.

    Returns:
        the first true answer.

    Raises:
        AssertionError: it did not become true in time; the message has the last answer.
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
    """Check that something stays false for a while.

    Args:
        probe: asked again and again.
        during: seconds to watch.
        interval: seconds between two calls.
        what: what must not happen, as the error says it.

    Raises:
        AssertionError: it became true; the message has the answer.
    """
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        answer = probe()
        name = what or getattr(probe, "__name__", repr(probe))
        assert not answer, f"must not happen: {name} (answer: {answer!r})"
        time.sleep(interval)
