"""Where each of very many messages is, in memory that does not grow while they are sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass

UNUSED, SENDING, CONFIRMED, UNSURE, REFUSED = range(5)
_MOST_SHOWN = 5
_MOST_COUNTED = 255


@dataclass(frozen=True)
class Totals:
    """The sums of one place that messages are sent to.

    Attributes:
        place: its name.
        sent: how many sends were tried.
        confirmed: how many of them returned.
        unsure: how many raised and may have arrived.
        refused: how many raised and cannot have arrived.
        handled: how many messages were handled at least once.
        repeated: how many times a message was handled again.
        parked: how many lie in the dead-letter queue.
        ready: how many lie in the queue still.
        lost: confirmed, and nowhere.
        false_alarms: said not to have arrived, and somewhere.
        examples: ids of what is wrong.
    """

    place: str
    sent: int
    confirmed: int
    unsure: int
    refused: int
    handled: int
    repeated: int
    parked: int
    ready: int
    lost: int
    false_alarms: int
    examples: tuple[str, ...]


class Books:
    """Count by id what is sent to one place and what comes of it; callable from any thread.

    Args:
        place: the name of the queue or subscriber.
        capacity: how many messages there may be.
    """

    def __init__(self, place: str, capacity: int) -> None:
        self.place = place
        self._state = bytearray(b"\xff" * capacity)  # written to, so that it takes its memory now
        self._handled = bytearray(b"\xff" * capacity)
        self._failed = bytearray(b"\xff" * capacity)
        for each in (self._state, self._handled, self._failed):
            each[:] = bytes(capacity)
        self._lock = threading.Lock()
        self._next = 0

    def begin(self) -> int | None:
        """Give out the number of the next message; None when there is no room for more."""
        with self._lock:
            number = self._next
            if number >= len(self._state):
                return None
            self._next += 1
            self._state[number] = SENDING
            return number

    def ended(self, number: int, state: int) -> None:
        """Note how a send ended."""
        self._state[number] = state

    def handled(self, number: int) -> None:
        """Note that a message was handled."""
        with self._lock:
            self._handled[number] = min(_MOST_COUNTED, self._handled[number] + 1)

    def failed_before(self, number: int) -> bool:
        """Say whether a message has failed already, and note that it fails now."""
        with self._lock:
            before = self._failed[number]
            self._failed[number] = 1
        return bool(before)

    def totals(self, *, parked: list[int], ready: list[int]) -> Totals:
        """Draw the sums, when nothing moves any more.

        Args:
            parked: the numbers found in the dead-letter queue.
            ready: the numbers found in the queue.
        """
        with self._lock:
            states = bytes(self._state[: self._next])
            handled = bytes(self._handled[: self._next])
        elsewhere = set(parked) | set(ready)
        lost = [
            n
            for n, state in enumerate(states)
            if state == CONFIRMED and not handled[n] and n not in elsewhere
        ]
        false = [
            n
            for n, state in enumerate(states)
            if state == REFUSED and (handled[n] or n in elsewhere)
        ]
        times = [count for count in handled if count]
        return Totals(
            place=self.place,
            sent=len(states),
            confirmed=states.count(CONFIRMED),
            unsure=states.count(UNSURE),
            refused=states.count(REFUSED),
            handled=len(times),
            repeated=sum(times) - len(times),
            parked=len(set(parked)),
            ready=len(set(ready)),
            lost=len(lost),
            false_alarms=len(false),
            examples=tuple(f"{self.place}-{n}" for n in (lost + false)[:_MOST_SHOWN]),
        )


def id_of(place: str, number: int) -> str:
    """Return the id of a message."""
    return f"{place}/{number}"


def number_of(message_id: str) -> int:
    """Return the number in the id of a message."""
    return int(message_id.rpartition("/")[2])
