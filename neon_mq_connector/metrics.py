"""Histograms of how long callbacks and requests take, for the whole process.

All other metrics are counts that exist anyway. These two cost some time per message, so they are
kept only after `enable`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

#: Upper bounds of the buckets, in seconds; what takes longer is counted behind the last.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: The name under which durations are kept when there are too many names.
OTHER = "other"
_MOST_NAMES = 200


class Durations:
    """Counts of durations by name; any thread may observe and read.

    Both updates are lines in which CPython changes no threads between reading and writing, so that
    no lock is needed.
    """

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, name: str, seconds: float) -> None:
        """Count a duration."""
        counts = self._counts.get(name)
        if counts is None:
            name, counts = self._begin(name)
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._sums[name] += seconds

    def _begin(self, name: str) -> tuple[str, list[int]]:
        """Return the counts of a new name; names may come from the wire, so they are bounded."""
        if len(self._counts) >= _MOST_NAMES:
            name = OTHER
        self._sums.setdefault(name, 0.0)
        return name, self._counts.setdefault(name, [0] * (len(BOUNDS) + 1))

    def to_dict(self) -> dict[str, Any]:
        """Return by name the sum in seconds, and the count of each bucket."""
        return {
            name: {"sum": self._sums[name], "counts": list(counts)}
            for name, counts in self._counts.copy().items()
        }


#: By queue, from the start of a callback to its end; None before `enable`.
callback_seconds: Durations | None = None
#: By queue, from sending a request to its last answer, or to its error.
request_seconds: Durations | None = None


def enable() -> None:
    """Begin to keep durations, for the rest of the process."""
    global callback_seconds, request_seconds
    callback_seconds = callback_seconds or Durations()
    request_seconds = request_seconds or Durations()
