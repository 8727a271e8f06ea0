"""The messages of a queue that wait for a consumer, in the order in which they are delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from neon_mq_connector.testing.embedded.message import Message


@dataclass(slots=True, eq=False)
class Entry:
    """A message in a queue.

    Attributes:
        message: the message.
        position: tells the order in which messages came; a requeued one goes back to its place.
        expires: when it expires, in milliseconds of the clock; None for never.
        redelivered: whether it was delivered before.
        deliveries: how often it came back, where the queue counts that.
        initial_deliveries: what is told in its place until it comes back for the first time.
        delivered_at: when it was last delivered, in milliseconds of the clock.
    """

    message: Message
    position: int
    expires: float | None
    redelivered: bool = False
    deliveries: int = 0
    initial_deliveries: int = 0
    delivered_at: float = 0.0

    @property
    def header(self) -> bytes:
        """The properties with which it is delivered."""
        count = self.deliveries or self.initial_deliveries
        if count:
            return self.message.with_delivery_count(count)
        return self.message.header


class ReadyMessages:
    """The waiting messages of a classic queue: by priority, and of each in the order they came.

    Args:
        max_priority: the highest priority; those above count as that.

    Attributes:
        size: the bodies of all, in bytes.
    """

    def __init__(self, max_priority: int = 0) -> None:
        self.size = 0
        self._levels: list[deque[Entry]] = [deque() for _ in range(max_priority + 1)]

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def __iter__(self) -> Iterator[Entry]:
        return (entry for level in self._levels for entry in level)

    def put(self, entry: Entry) -> None:
        """Put a new message behind those of its priority."""
        self._levels[self._level(entry.message)].append(entry)
        self.size += len(entry.message.body)

    def put_back(self, entries: list[Entry]) -> None:
        """Put requeued messages, sorted by their position, where they were."""
        if len(self._levels) == 1:
            _merge(self._levels[0], entries)
        else:
            for number, level in enumerate(self._levels):
                _merge(level, [each for each in entries if self._level(each.message) == number])
        self.size += sum(len(entry.message.body) for entry in entries)

    def head(self) -> Entry | None:
        """Return the message that is next, and leave it."""
        level = self._next_level()
        return level[0] if level else None

    def take(self) -> Entry | None:
        """Take the next message out."""
        level = self._next_level()
        if not level:
            return None
        entry = level.popleft()
        self.size -= len(entry.message.body)
        return entry

    def keep(self, entries: list[Entry]) -> None:
        """Keep only some of the messages, given in their order."""
        self.clear()
        for entry in entries:
            self.put(entry)

    def clear(self) -> None:
        """Drop all."""
        for level in self._levels:
            level.clear()
        self.size = 0

    def _level(self, message: Message) -> int:
        """Return in which deque a message waits; the first is served first."""
        highest = len(self._levels) - 1
        return highest - min(message.priority or 0, highest)

    def _next_level(self) -> deque[Entry]:
        """Return the deque whose first message is next; an empty one if none waits."""
        return next(filter(None, self._levels), self._levels[0])


#: Returns the place of a message among all that came, to sort by.
position_of = attrgetter("position")


def _merge(level: deque[Entry], entries: list[Entry]) -> None:
    """Put sorted messages into a sorted deque."""
    if not entries:
        return
    if not level or entries[-1].position < level[0].position:
        level.extendleft(reversed(entries))
        return
    merged = sorted((*level, *entries), key=position_of)
    level.clear()
    level.extend(merged)
