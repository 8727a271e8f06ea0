"""Counting messages by id: what was sent, what the library promised, and where each one is now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import BasicProperties

_SHOWN = 5


@dataclass(frozen=True)
class Account:
    """Where every message is, at a moment at which nothing moves any more.

    Attributes:
        sent: ids that somebody tried to send.
        confirmed: ids whose send returned.
        unsure: ids whose send raised and may have arrived.
        refused: ids whose send raised and cannot have arrived.
        handled: by id, how often its callback succeeded.
        parked: by id, how often it lies in a dead-letter queue.
        ready: by id, how often it lies in its own queue.
    """

    sent: frozenset[str]
    confirmed: frozenset[str]
    unsure: frozenset[str]
    refused: frozenset[str]
    handled: Counter[str]
    parked: Counter[str]
    ready: Counter[str]

    @property
    def found(self) -> frozenset[str]:
        """The ids that are somewhere."""
        return frozenset(self.handled) | frozenset(self.parked) | frozenset(self.ready)

    @property
    def lost(self) -> frozenset[str]:
        """The ids that were confirmed and are nowhere."""
        return self.confirmed - self.found

    @property
    def repeated(self) -> int:
        """How often a message was handled that had been handled already."""
        return sum(self.handled.values()) - len(self.handled)

    def as_dict(self) -> dict[str, int]:
        """Return the totals by name."""
        return {
            "sent": len(self.sent),
            "confirmed": len(self.confirmed),
            "unsure": len(self.unsure),
            "refused": len(self.refused),
            "handled": len(self.handled),
            "handled again": self.repeated,
            "parked": len(self.parked),
            "ready": len(self.ready),
            "lost": len(self.lost),
        }

    def faults(self) -> list[str]:
        """Say in what the sums do not close; empty when they do."""
        complaints = {
            "confirmed and nowhere to be found": self.lost,
            "said not to have arrived, and did": self.refused & self.found,
            "found but never sent": self.found - self.sent,
            "neither confirmed nor failed": self.sent - self.confirmed - self.unsure - self.refused,
        }
        return [_describe(what, ids) for what, ids in complaints.items() if ids]

    def check(self) -> None:
        """Fail unless the sums close."""
        faults = self.faults()
        assert not faults, f"{'; '.join(faults)} (totals: {self.as_dict()})"


@dataclass
class Ledger:
    """Note what happens to messages, from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sent: set[str] = field(default_factory=set)
    _confirmed: set[str] = field(default_factory=set)
    _unsure: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)
    _handled: Counter[str] = field(default_factory=Counter)

    def sending(self, message_id: str) -> None:
        """Note that a message is about to be sent."""
        with self._lock:
            self._sent.add(message_id)

    def confirmed(self, message_id: str) -> None:
        """Note that the call that sends it has returned."""
        with self._lock:
            self._confirmed.add(message_id)

    def failed(self, message_id: str, *, may_have_arrived: bool) -> None:
        """Note that the call that sends it has raised."""
        with self._lock:
            (self._unsure if may_have_arrived else self._refused).add(message_id)

    def handled(self, message_id: str) -> None:
        """Note that a callback has done its work on a message."""
        with self._lock:
            self._handled[message_id] += 1

    @property
    def handled_ids(self) -> set[str]:
        """The ids of the messages that were handled."""
        with self._lock:
            return set(self._handled)

    @property
    def confirmed_ids(self) -> set[str]:
        """The ids of the messages whose send returned."""
        with self._lock:
            return set(self._confirmed)

    def close(self, *, parked: Iterable[str] = (), ready: Iterable[str] = ()) -> Account:
        """Draw the sums."""
        with self._lock:
            return Account(
                frozenset(self._sent),
                frozenset(self._confirmed),
                frozenset(self._unsure),
                frozenset(self._refused),
                Counter(self._handled),
                Counter(parked),
                Counter(ready),
            )


def take_all(channel: BlockingChannel, queue: str) -> Iterator[tuple[BasicProperties, bytes]]:
    """Take message by message until a queue is empty; one that is missing costs the channel."""
    try:
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None or properties is None or body is None:
                return
            yield properties, body
    except ChannelClosedByBroker as error:
        if error.reply_code != 404:
            raise


def _describe(what: str, ids: frozenset[str]) -> str:
    some = ", ".join(sorted(ids)[:_SHOWN])
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{len(ids)} {what}: {some}{more}"
