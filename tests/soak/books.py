"""Where each of very many messages is, in memory that does not grow while they are sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

UNUSED, SENDING, CONFIRMED, UNSURE, REFUSED = range(5)
_MOST_SHOWN = 5
_MOST_COUNTED = 255


@dataclass(frozen=True)
class Totals:
    """The sums of one place that messages are sent to.

    Attributes:
        place: its name.
        counts: of messages, by what became of them: see `Books.totals`.
        examples: numbers of what is wrong.
    """

    place: str
    counts: dict[str, int]
    examples: tuple[int, ...]


class Books:
    """Count by number what is sent to one place and what comes of it; callable from any thread.

    Args:
        place: the name of the queue or subscriber.
        capacity: how many messages there may be.
    """

    def __init__(self, place: str, capacity: int) -> None:
        self.place = place
        self._state = bytearray(b"\xff" * capacity)  # written to, so that it takes its memory now
        self._handled = bytearray(b"\xff" * capacity)
        self._tried = bytearray(b"\xff" * capacity)
        for each in (self._state, self._handled, self._tried):
            each[:] = bytes(capacity)
        self._lock = threading.Lock()
        self._next = 0
        self._parked: set[int] = set()

    def begin(self) -> int | None:
        """Return the number of the next message; None when there is no room for more."""
        with self._lock:
            number = self._next
            if number >= len(self._state):
                return None
            self._next += 1
            self._state[number] = SENDING
            return number

    def ended(self, number: int, state: int) -> None:
        """Note how a send ended."""
        with self._lock:
            self._state[number] = state

    def tried(self, number: int) -> int:
        """Note that a callback begins; return how often one has begun for this message before."""
        with self._lock:
            before = self._tried[number]
            self._tried[number] = min(_MOST_COUNTED, before + 1)
        return before

    def handled(self, number: int) -> None:
        """Note that a message was handled."""
        with self._lock:
            self._handled[number] = min(_MOST_COUNTED, self._handled[number] + 1)

    def parked(self, number: int) -> None:
        """Note that a message was found in the dead-letter queue."""
        with self._lock:
            self._parked.add(number)

    def totals(self, ready: Iterable[int]) -> Totals:
        """Return the sums, when nothing moves any more."""
        with self._lock:
            states = bytes(self._state[: self._next])
            handled = bytes(self._handled[: self._next])
        waiting = set(ready)
        found = {n for n, times in enumerate(handled) if times} | self._parked | waiting
        lost = [n for n, state in enumerate(states) if state == CONFIRMED and n not in found]
        arrived = [n for n, state in enumerate(states) if state == REFUSED and n in found]
        times = [count for count in handled if count]
        counts = {
            "sent": len(states),
            "confirmed": states.count(CONFIRMED),
            "unsure": states.count(UNSURE),  # the send raised, and it may have arrived
            "refused": states.count(REFUSED),  # the send raised, and it cannot have arrived
            "handled": len(times),
            "repeated": sum(times) - len(times),
            "tries": max(self._tried),  # of the message whose callback was called most often
            "parked": len(self._parked),
            "ready": len(waiting),
            "lost": len(lost),  # confirmed, and nowhere
            "arrived": len(arrived),  # said not to have arrived, and somewhere
        }
        return Totals(self.place, counts, tuple((lost + arrived)[:_MOST_SHOWN]))
