"""How long to wait before trying again.

Nothing here sleeps: callers wait on their stop event or their loop's timer, so that no delay holds
up a stop.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class OutageBackoff:
    """Delay in proportion to how long the outage has lasted: quick after a blip, gentle later.

    Attributes:
        share: the longest delay as a share of the age of the outage (0.15).
        floor: the shortest delay, in seconds (0.1).
        ceiling: the longest delay, in seconds (30).
    """

    share: float = 0.15
    floor: float = 0.1
    ceiling: float = 30.0

    def delay(self, outage_age: float, random: Callable[[], float] = random.random) -> float:
        """Return how long to wait before the next attempt.

        Args:
            outage_age: seconds since the outage began.
            random: a source of numbers from 0 to 1; many clients must not come back in step.

        Returns:
            Seconds: a random half to whole of ``share × outage_age``, within floor and ceiling.
        """
        longest = self.share * max(0.0, outage_age)
        return min(self.ceiling, max(self.floor, longest * (0.5 + 0.5 * random())))


@dataclass(frozen=True)
class ExponentialBackoff:
    """Delay that grows by a factor with each attempt.

    Attributes:
        first: the delay after the first failure, in seconds (1).
        factor: by how much each further delay grows (2).
        ceiling: the longest delay, in seconds (60).
    """

    first: float = 1.0
    factor: float = 2.0
    ceiling: float = 60.0

    def delay(self, attempt: int) -> float:
        """Return how long to wait after so many failed attempts, in seconds."""
        try:
            return min(self.ceiling, self.first * self.factor ** (max(1, attempt) - 1))
        except OverflowError:
            return self.ceiling
