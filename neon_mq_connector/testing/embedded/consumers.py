"""Consumers, their prefetch limits, and the order in which they are served."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Protocol

from neon_mq_connector.testing.embedded.ready import Entry
from neon_mq_connector.testing.embedded.tables import Table, encode_short_string

_NO_LIMIT = -1


class Outlet(Protocol):
    """Where the deliveries of a channel's consumers go.

    Attributes:
        congested: whether the client does not read what it was sent.
        prefetch_limit: how many deliveries all consumers of the channel may hold; 0 for no limit.
        prefetched: how many they hold.
    """

    congested: bool
    prefetch_limit: int
    prefetched: int

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a message to the client; unless the consumer acks nothing, keep it for its ack."""

    def cancelled(self, consumer: Consumer) -> None:
        """Drop a consumer whose queue is gone."""


@dataclass(eq=False)
class Consumer:
    """A consumer of a queue.

    Args:
        tag: its consumer tag.
        outlet: the channel.
        no_ack: whether a message counts as settled when it is delivered.
        exclusive: whether no other consumer is allowed.
        prefetch: how many messages it may hold; 0 for no limit.
        arguments: of the consumer.

    Attributes:
        shares_limit: whether the limit for all consumers of the channel is one for it.
        waits: whether it is set aside until it may take a message again.
    """

    tag: str
    outlet: Outlet
    no_ack: bool = False
    exclusive: bool = False
    prefetch: int = 0
    arguments: Table = field(default_factory=dict)
    shares_limit: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        self.encoded_tag = encode_short_string(self.tag)
        priority = self.arguments.get("x-priority")
        self.priority: int = priority.value if priority is not None else 0
        self._credit = self.prefetch if self.prefetch and not self.no_ack else _NO_LIMIT

    @property
    def may_take(self) -> bool:
        """Whether no limit keeps it from taking a message."""
        outlet = self.outlet
        return (
            self._credit != 0
            and not outlet.congested
            and not (self.shares_limit and 0 < outlet.prefetch_limit <= outlet.prefetched)
        )

    def count_taken(self) -> None:
        """Count a message that has to be acknowledged."""
        self.outlet.prefetched += self.shares_limit
        if self._credit > 0:
            self._credit -= 1

    def count_settled(self, count: int = 1) -> None:
        """Count messages that were settled."""
        self.outlet.prefetched -= count * self.shares_limit
        if self._credit != _NO_LIMIT:
            self._credit += count


class RoundRobin:
    """The consumers of a queue in the order in which they are served.

    Those of the highest priority that may take a message are served in turn. Who may not is set
    aside and comes back as the last.
    """

    def __init__(self) -> None:
        #: by falling priority, and of each in the order of their turns
        self._active: list[Consumer] = []
        self._waiting: dict[Consumer, None] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._active)

    def all(self) -> list[Consumer]:
        """Return all consumers."""
        return [*self._active, *self._waiting]

    def add(self, consumer: Consumer) -> None:
        """Add a consumer as the last of its priority."""
        insort(self._active, consumer, key=lambda each: -each.priority)

    def remove(self, consumer: Consumer) -> None:
        """Remove a consumer."""
        if consumer.waits:
            consumer.waits = False
            del self._waiting[consumer]
        else:
            self._active.remove(consumer)

    def first(self) -> Consumer | None:
        """Return the consumer that would be served first, able to take a message or not."""
        return next(iter(self.all()), None)

    def next(self) -> Consumer | None:
        """Return the consumer that takes the next message, if any can."""
        while self._active:
            consumer = self._active.pop(0)
            if consumer.may_take:
                self.add(consumer)
                return consumer
            consumer.waits = True
            self._waiting[consumer] = None
        return None

    def wake(self) -> bool:
        """Serve consumers again that may take messages again; return whether there are any."""
        awake = [consumer for consumer in self._waiting if consumer.may_take]
        for consumer in awake:
            self.remove(consumer)
            self.add(consumer)
        return bool(awake)
