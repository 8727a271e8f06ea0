"""The broker's time: it passes by itself and can be moved forward by a test."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

#: Some timers begin anew for as long as the clock is moved: a year of them takes some seconds.
_LONGEST_MOVE = 366 * 86_400


class Timer:
    """A call at a time of the clock."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Cancel the call."""
        self.action = None


class Clock:
    """A monotonic clock in milliseconds, with timers. Owned by the broker's thread."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0
        #: while the clock is moved, the moment that has been reached
        self._moment: float | None = None
        #: is called when another timer is the next, or the clock was moved
        self.on_change: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Return the time in milliseconds."""
        if self._moment is not None:
            return self._moment
        return time.monotonic() * 1000 + self._ahead

    def wall(self) -> float:
        """Return the time of day in seconds since 1970, moved by as much as the clock was."""
        return time.time() + self._ahead / 1000

    def after(self, delay: float, action: Callable[[], None]) -> Timer:
        """Call a function after so many milliseconds."""
        timer = Timer(self.now() + delay, action)
        self._count += 1
        heapq.heappush(self._timers, (timer.due, self._count, timer))
        if self._timers[0][2] is timer:
            self.on_change()
        return timer

    def run_due(self) -> None:
        """Make the calls that are due."""
        self._run_until(self.now())

    def advance(self, seconds: float) -> None:
        """Move the clock and make the calls that become due, in their order."""
        if not 0 <= seconds <= _LONGEST_MOVE:
            raise ValueError(f"the clock moves forward, and a year at most, not by {seconds} s")
        target = self.now() + seconds * 1000
        self._ahead += seconds * 1000
        self._run_until(target)
        self.on_change()

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next timer is due, or None when there is none."""
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - self.now(), 0.0) / 1000 if self._timers else None

    def clear(self) -> None:
        """Forget all timers."""
        self._timers.clear()

    def _run_until(self, moment: float) -> None:
        try:
            while self._timers and self._timers[0][0] <= moment:
                due, _, timer = heapq.heappop(self._timers)
                action, timer.action = timer.action, None
                if action is not None:
                    self._moment = due
                    action()
        finally:
            self._moment = None
