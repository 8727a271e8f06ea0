"""What queues need of their virtual host and its broker."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

from neon_mq_connector.testing.embedded.clock import Clock
from neon_mq_connector.testing.embedded.history import History
from neon_mq_connector.testing.embedded.message import Message


class Faults:
    """The faults that a test has asked for.

    Attributes:
        alarms: the resources that are low: `memory`, `disk`; publishers are not read from then.
        delay: how many seconds later than usual everything is sent.
        counts: how many times each fault of one message is still to happen: `lost confirm`,
            `repetition`.
    """

    def __init__(self) -> None:
        self.alarms: set[str] = set()
        self.delay = 0.0
        self.counts: dict[str, int] = {}

    def clear(self) -> None:
        """End all faults."""
        self.alarms.clear()
        self.delay = 0.0
        self.counts.clear()

    def take(self, fault: str) -> bool:
        """Return whether a fault is to happen now, and count it."""
        if not self.counts.get(fault):
            return False
        self.counts[fault] -= 1
        return True


class NodeState:
    """What all virtual hosts of a broker share. Owned by the broker's thread.

    Args:
        refuse_transient: whether queues that are neither durable nor exclusive are refused.

    Attributes:
        stored: about what all messages take in memory, in bytes.
    """

    def __init__(self, *, refuse_transient: bool = False) -> None:
        self.refuse_transient = refuse_transient
        self.clock = Clock()
        self.history = History(self.clock)
        self.faults = Faults()
        self.stored = 0


class Host(ABC):
    """A virtual host as its queues know it. Owned by the broker's thread.

    Args:
        name: of the virtual host.
        shared: what it shares with the others.
    """

    def __init__(self, name: str, shared: NodeState) -> None:
        self.name = name
        self.shared = shared
        self.clock = shared.clock
        self._dead_letters: deque[Message] = deque()
        self._holds_dead_letters = False

    def record(self, queue: str, kind: str, message: Message, redelivered: bool = False) -> None:
        """Add an event to the history."""
        self.shared.history.record(self.name, queue, kind, message, redelivered)

    def dead_letter(self, letter: Message) -> None:
        """Publish a message to its dead-letter exchange, if that is there."""
        with self.dead_letters_last():
            self._dead_letters.append(letter)

    @contextlib.contextmanager
    def dead_letters_last(self) -> Iterator[None]:
        """Publish dead letters at the end of the block, with those that they cause.

        RabbitMQ's queues finish an operation before they get each other's dead letters.
        """
        if self._holds_dead_letters:
            yield
            return
        self._holds_dead_letters = True
        try:
            yield
            while self._dead_letters:
                self._publish_dead_letter(self._dead_letters.popleft())
        finally:
            self._holds_dead_letters = False

    @abstractmethod
    def remove_queue(self, name: str) -> None:
        """Remove a queue with its bindings; a missing one is fine."""

    @abstractmethod
    def _publish_dead_letter(self, letter: Message) -> None:
        """Publish a message to its dead-letter exchange."""
