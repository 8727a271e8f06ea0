"""What queues need of the virtual host that they are in."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from neon_mq_connector.testing.embedded.clock import Clock
from neon_mq_connector.testing.embedded.faults import Faults
from neon_mq_connector.testing.embedded.history import History
from neon_mq_connector.testing.embedded.message import Message


@dataclass
class Ledger:
    """What the messages of a broker take in memory, in bytes."""

    stored: int = 0


@dataclass
class Surroundings:
    """What all virtual hosts of a broker share."""

    clock: Clock
    history: History
    faults: Faults
    ledger: Ledger = field(default_factory=Ledger)
    refuse_transient: bool = False


class DeadLetter(NamedTuple):
    """A message on its way to a dead-letter exchange.

    Attributes:
        queue: the name of the queue that it comes from.
        message: the message.
        reason: `expired`, `rejected`, `maxlen` or `delivery_limit`.
        exchange: the name of the dead-letter exchange.
        routing_key: that the queue has for dead letters; None keeps the message's own.
    """

    queue: str
    message: Message
    reason: str
    exchange: str
    routing_key: str | None


class Host(ABC):
    """The surroundings of a queue. Owned by the broker's thread.

    Args:
        name: of the virtual host.
        shared: what it shares with the others.
    """

    def __init__(self, name: str, shared: Surroundings) -> None:
        self.name = name
        self.clock = shared.clock
        self.faults = shared.faults
        self.ledger = shared.ledger
        self._history = shared.history
        self._letters: deque[DeadLetter] = deque()
        self._holds_letters = False

    def record(self, queue: str, kind: str, message: Message, redelivered: bool = False) -> None:
        """Note what happened to a message."""
        self._history.record(self.name, queue, kind, message, redelivered)

    def dead_letter(self, letter: DeadLetter) -> None:
        """Send a message on to a dead-letter exchange, if that is there."""
        with self.letters_last():
            self._letters.append(letter)

    @contextlib.contextmanager
    def letters_last(self) -> Iterator[None]:
        """Send the dead letters that come up meanwhile at the end, with those that they cause.

        RabbitMQ's queues do what they are about before they get each other's letters.
        """
        if self._holds_letters:
            yield
            return
        self._holds_letters = True
        try:
            yield
            while self._letters:
                self._send_letter(self._letters.popleft())
        finally:
            self._holds_letters = False

    @abstractmethod
    def remove_queue(self, name: str) -> None:
        """Remove a queue with its bindings; a missing one is fine."""

    @abstractmethod
    def _send_letter(self, letter: DeadLetter) -> None:
        """Publish a message to its dead-letter exchange."""
