"""Consumers, the limits on what they hold unacknowledged, and whose turn it is."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from neon_mq_connector.testing.embedded.ready import Entry
from neon_mq_connector.testing.embedded.tables import Table

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
        """Take note that the consumer's queue is gone."""


class Consumer:
    """A consumer of a queue.

    Args:
        tag: its consumer tag.
        outlet: the channel.
        no_ack: whether a message counts as settled when it is delivered.
        exclusive: whether no other consumer is allowed.
        prefetch: how many messages it may hold; 0 for no limit.
        arguments: of the consumer.
    """

    __slots__ = (
        "arguments",
        "credit",
        "encoded_tag",
        "exclusive",
        "no_ack",
        "outlet",
        "prefetch",
        "priority",
        "shares_limit",
        "tag",
        "waits",
    )

    def __init__(
        self,
        tag: str,
        outlet: Outlet,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        prefetch: int = 0,
        arguments: Table | None = None,
    ) -> None:
        encoded = tag.encode(errors="surrogateescape")
        self.tag = tag
        self.encoded_tag = bytes((len(encoded),)) + encoded
        self.outlet = outlet
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.arguments = arguments or {}
        priority = self.arguments.get("x-priority")
        self.priority: int = priority.value if priority is not None else 0
        #: whether the limit for all consumers of the channel is one for it
        self.shares_limit = True
        self.credit = prefetch if prefetch and not no_ack else _NO_LIMIT
        #: whether it is set aside until it may take a message again
        self.waits = False

    @property
    def may_take(self) -> bool:
        """Whether no limit keeps it from taking a message."""
        outlet = self.outlet
        return (
            self.credit != 0
            and not outlet.congested
            and not (self.shares_limit and 0 < outlet.prefetch_limit <= outlet.prefetched)
        )

    def took(self) -> None:
        """Count a message that has to be acknowledged."""
        self.outlet.prefetched += self.shares_limit
        if self.credit > 0:
            self.credit -= 1

    def gave_back(self, count: int = 1) -> None:
        """Count messages that were settled."""
        self.outlet.prefetched -= count * self.shares_limit
        if self.credit != _NO_LIMIT:
            self.credit += count


class Turns:
    """The consumers of a queue in the order in which they are served.

    Those of the highest priority that may take a message are served in turn. Who may not is set
    aside and comes back as the last.
    """

    def __init__(self) -> None:
        self._turns: dict[int, deque[Consumer]] = {}
        self._priorities: list[int] = []
        self._waiting: dict[Consumer, None] = {}

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._turns.values()))

    def all(self) -> list[Consumer]:
        """Return all consumers."""
        served = [each for priority in self._priorities for each in self._turns[priority]]
        return served + list(self._waiting)

    def add(self, consumer: Consumer) -> None:
        """Add a consumer as the last of its priority."""
        turn = self._turns.get(consumer.priority)
        if turn is None:
            turn = self._turns[consumer.priority] = deque()
            self._priorities = sorted(self._turns, reverse=True)
        turn.append(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Remove a consumer."""
        if consumer.waits:
            consumer.waits = False
            del self._waiting[consumer]
            return
        turn = self._turns[consumer.priority]
        turn.remove(consumer)
        if not turn:
            del self._turns[consumer.priority]
            self._priorities.remove(consumer.priority)

    def first(self) -> Consumer | None:
        """Return the consumer that would be served first, able to take a message or not."""
        return next(iter(self.all()), None)

    def next(self) -> Consumer | None:
        """Return the consumer that takes the next message, if any can."""
        for priority in self._priorities:
            turn = self._turns[priority]
            while turn:
                consumer = turn[0]
                if consumer.may_take:
                    turn.rotate(-1)
                    return consumer
                turn.popleft()
                consumer.waits = True
                self._waiting[consumer] = None
        return None

    def wake(self) -> bool:
        """Let consumers that may take messages again have their turns; tell whether there are."""
        awake = [consumer for consumer in self._waiting if consumer.may_take]
        for consumer in awake:
            del self._waiting[consumer]
            consumer.waits = False
            self.add(consumer)
        return bool(awake)
