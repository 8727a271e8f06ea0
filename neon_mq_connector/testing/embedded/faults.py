"""Faults that a test has asked for and that have not happened yet."""

from __future__ import annotations


class Faults:
    """What is to go wrong. Owned by the broker's thread.

    Attributes:
        alarms: the resources that are low: `memory`, `disk`; publishers are not read from then.
        delay: how many seconds later than usual everything is sent.
    """

    def __init__(self) -> None:
        self.alarms: set[str] = set()
        self.clear()

    def clear(self) -> None:
        """Have nothing go wrong."""
        self.alarms.clear()
        self.delay = 0.0
        self.lost_confirms = 0
        self.repetitions = 0

    def take_lost_confirm(self) -> bool:
        """Tell whether the next confirm is to be lost, once for each that was asked for."""
        if not self.lost_confirms:
            return False
        self.lost_confirms -= 1
        return True

    def take_repetition(self) -> bool:
        """Tell whether the next message is to be delivered twice, once for each asked for."""
        if not self.repetitions:
            return False
        self.repetitions -= 1
        return True
