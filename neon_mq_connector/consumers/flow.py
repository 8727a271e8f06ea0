"""How many messages the broker sends ahead: as many as were asked for, or fewer.

The number is changed while messages flow (`Subscription.adjust`), so that the queue always has its
consumer and no message is given back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from neon_mq_connector.consumers.registration import Registration

#: The size that is assumed until sizes are known: `max_message_size` of RabbitMQ 4.0.
_LARGEST_MESSAGE = 16 * 2**20
#: The mean is one of at least so many messages.
_SHORTEST_WINDOW = 10
#: The prefetch count that stands for AMQP's "no limit".
MOST_PREFETCHED = 65_535


def is_bound_to_its_place(registration: Registration) -> bool:
    """Whether starting another consumer changes what the queue delivers, or to which consumer."""
    arguments = registration.queue.arguments
    is_stream = arguments.get("x-queue-type") == "stream"
    return is_stream or bool(arguments.get("x-single-active-consumer"))


class Flow:
    """Choose the prefetch count of a consumer.

    Messages that wait here must stay within ``inbox_max_bytes``, and so must the prefetch count
    times the mean size of the last messages. Since messages may be large, a session begins with
    few, and takes more once it has seen some.

    The sizes are owned by the session's I/O thread. Any thread sets the rest.

    Args:
        held: returns how many messages are held for another try; they take part of the prefetch.
        is_unstable: whether a lost connection would count against messages that were sent ahead.

    Attributes:
        asked: the prefetch count that was asked for.
        can_change: whether the prefetch may change while a session lasts.
    """

    def __init__(
        self,
        registration: Registration,
        held: Callable[[], int],
        is_unstable: Callable[[], bool],
    ) -> None:
        self.asked = registration.prefetch_count
        self.can_change = not is_bound_to_its_place(registration)
        self._concurrency = registration.concurrency
        self._max_bytes = registration.inbox_max_bytes
        self._held = held
        self.is_unstable = is_unstable
        self._fits = self.asked
        self._mean = 0.0
        self._seen = 0
        self._slow_until = 0.0
        self._collects = False

    def begin(self, messages: int, *, is_as_registered: bool) -> int:
        """Return the prefetch count of a new session.

        Args:
            messages: how many wait in the queue; where they are few, their sizes are seen in time.
            is_as_registered: otherwise the queue may have a single active consumer, whose place a
                change would cost: it begins with the full number.
        """
        self._seen, self._mean = 0, 0.0
        few = max(1, self._max_bytes // _LARGEST_MESSAGE)
        # there must be room for twice as many beside those few, should none of them be settled
        starts_small = is_as_registered and messages > few and self.asked >= 3 * few
        self._fits = few if starts_small else self.asked
        return self._limit()

    def arrived(self, count: int, size: int, unsettled: int) -> None:
        """Note so many messages, of so many bytes in all.

        What is unsettled now stays, whatever the prefetch of the next consumer is: the two together
        may take twice the bytes.
        """
        window = max(_SHORTEST_WINDOW, self.asked // 2)
        self._seen = seen = min(self._seen + count, window)
        self._mean += (size / count - self._mean) * min(1.0, count / seen)
        in_all = int(self._max_bytes / max(1.0, self._mean))
        room = max(1, min(in_all, 2 * in_all - unsettled))
        if in_all < self._fits or room >= 2 * self._fits:  # small changes are not worth it
            self._fits = room

    def note_slow(self, seconds: float) -> bool:
        """Limit the prefetch to what can be handled at once; return whether it was not already."""
        now = time.monotonic()
        is_news = self._slow_until < now
        self._slow_until = now + seconds
        return is_news

    def note_stuck(self) -> None:
        """Lift the limits by size and slowness, if they apply now: callbacks collect messages.

        They settle none before they have as many as were asked for.
        """
        self._collects = self._collects or self._limit() < self.asked

    def wanted(self, present: int, unsettled: int = 0) -> int:
        """Return the prefetch count that a session is to have now, in place of the present one.

        Together with it the unsettled messages must not be more than was asked for.
        """
        if not self.can_change:
            return present
        limit = self._limit()
        room = min(limit, self.asked - unsettled)
        return room if room == limit or room >= 2 * present else min(limit, present)

    def _limit(self) -> int:
        if not self.can_change:
            return self.asked
        limit = self.asked
        if not self._collects:
            limit = self._fits
            if self._slow_until and time.monotonic() < self._slow_until:
                limit = min(limit, self._concurrency)
        if self.is_unstable():
            limit = min(limit, self._concurrency + 1)
        return max(1, min(self.asked, limit + self._held()))
