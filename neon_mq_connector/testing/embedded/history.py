"""What has happened to the messages of each queue."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from neon_mq_connector.testing.embedded.clock import Clock
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.properties import MESSAGE_ID

_MOST_EVENTS = 100_000
_MOST_BYTES = 64 * 1024 * 1024
_EXCERPT = 4096


class Event(NamedTuple):
    """Something that happened to one message in one queue.

    Attributes:
        time: by the broker's clock, in seconds since 1970.
        queue: the name of the queue.
        kind: `published`, `delivered`, `acked`, `rejected`, `requeued`, `expired`, `dropped` (the
            queue was full), `limited` (delivered too often), `refused` (not taken: the queue was
            full) or `purged`.
        message_id: the property of the message, if it has one.
        exchange: where the message was published to.
        routing_key: with which routing key.
        body: the body, its first 4 KiB at most.
        redelivered: for `delivered`, whether it was marked as redelivered.
    """

    time: float
    queue: str
    kind: str
    message_id: str | None
    exchange: str
    routing_key: str
    body: bytes
    redelivered: bool


class History:
    """The last 100,000 events of a broker, or fewer where they would take more than 64 MiB.

    Owned by the broker's thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[tuple[float, object, str, str, Message, bool]] = deque()
        self._bytes = 0

    def record(
        self, vhost: str, queue: str, kind: str, message: Message, redelivered: bool = False
    ) -> None:
        """Add an event."""
        events = self._events
        events.append((self._clock.wall(), vhost, queue, kind, message, redelivered))
        self._bytes += message.footprint
        while self._bytes > _MOST_BYTES or len(events) > _MOST_EVENTS:
            self._bytes -= events.popleft()[4].footprint

    def of(self, vhost: str, queue: str) -> list[Event]:
        """Return the events of a queue, oldest first."""
        return [
            Event(
                time,
                name,
                kind,
                message.properties.text(MESSAGE_ID),
                message.exchange,
                message.routing_key,
                message.body[:_EXCERPT],
                redelivered,
            )
            for time, where, name, kind, message, redelivered in self._events
            if where == vhost and name == queue
        ]
