"""The unsettled deliveries of one consuming channel, and how they are settled.

A delivery tag means something only on the channel on which it came, and may be settled once. The
broker closes a channel on which a tag is settled twice, so every settlement passes through here.

Acks that follow each other without a gap leave as one. An ack with ``multiple`` covers every lower
tag, so it may be sent only when every lower tag of the channel is settled or acknowledged by it.
Acking 2 to 5 while 1 is still being handled would acknowledge 1 too.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from neon_mq_connector import tracing
from neon_mq_connector.errors import FrameError, MQError
from neon_mq_connector.link import LinkChannel
from neon_mq_connector.log_fields import log_fields

LOG = logging.getLogger("neon_mq_connector.consumers")

#: How long an ack may be held back for those that follow, in seconds.
HOLD_FOR = 0.01
#: How many tags may be missing between two deliveries; `_advance` goes through each of them.
_LARGEST_GAP = 2**20


class Outcome(enum.Enum):
    """How a delivery is settled: done; failed (the broker drops or dead-letters it); given back."""

    ACK = "ack"
    REJECT = "reject"
    REJECT_AND_REQUEUE = "reject and requeue"
    NACK = "nack"
    NACK_AND_REQUEUE = "nack and requeue"


class Started(Protocol):
    """A message whose callback has started; see `ReceivedMessage`, which is one."""

    attempt: int
    started: float

    @property
    def tag(self) -> int: ...


MessageT = TypeVar("MessageT", bound=Started)


class Settlement(Generic[MessageT]):
    """Open deliveries of one channel; every method may be called from any thread.

    `_lock` owns the state. A delivery is *open* from the moment its callback starts until it is
    claimed. The thread that has claimed it sends exactly one outcome, now or later.

    Attributes:
        newest: the tag of the latest delivery.
        most_held: how many acks may be held back, for 10 ms at most; 1 for none. Any thread may set
            it.
    """

    def __init__(self, channel: LinkChannel, queue: str) -> None:
        self.channel = channel
        self.queue = queue
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._open: dict[int, MessageT] = {}
        self._claimed = 0
        self.newest = 0
        self.most_held = 1
        self._unsettled: set[int] = set()  # neither settled nor held back to be acked
        self._lowest = 1  # every delivered tag below is settled, or held back to be acked
        self._held = 0
        self._last_held = 0
        self._flush_is_due = False

    def delivered(self, first: int, last: int) -> None:
        """Note deliveries, in order, before any of them can be settled.

        Tags in between that were never noted are not ours.

        Raises:
            FrameError: no broker has delivered so many in between.
        """
        with self._lock:
            if first - self.newest > _LARGEST_GAP:
                raise FrameError(f"delivery tag {first} comes after {self.newest}")
            if first == last:
                self._unsettled.add(first)
            else:
                self._unsettled.update(range(first, last + 1))
            self.newest = last
            self._advance()

    def start(self, message: MessageT) -> None:
        """Note that a message is handed to its callback, which may settle it from now on."""
        self._open[message.tag] = message
        if message.attempt > 1:  # it was claimed when it failed
            with self._lock:
                self._claimed -= 1

    def is_open(self, tag: int) -> bool:
        """Whether a delivery was handed to its callback and is not claimed."""
        return tag in self._open

    def open_count(self) -> int:
        """How many deliveries were handed to a callback and are not settled."""
        return len(self._open)

    def unsettled_count(self) -> int:
        """How many were delivered and are neither settled nor held back to be acked, about."""
        return len(self._unsettled)

    def call_if_unsent(self, count: int, since: int, call: Callable[[], object]) -> None:
        """Call a function if so many deliveries after a tag are unsettled, before one is settled.

        It must not wait.
        """
        with self._lock:
            if self._held + sum(tag > since for tag in self._unsettled) >= count:
                call()

    def oldest(self) -> MessageT | None:
        """The open message that was handed over first."""
        with self._lock:
            return min(list(self._open.values()), key=lambda each: each.started, default=None)

    def claim(self, tag: int, *, multiple: bool = False) -> list[MessageT]:
        """Claim a delivery, or all open ones up to it (with tag 0, all): the caller settles them.

        Returns:
            The messages, by tag; empty when none is open.
        """
        with self._lock:
            if multiple:
                tags = sorted(t for t in list(self._open) if tag == 0 or t <= tag)
            else:
                tags = [tag] if tag in self._open else []
            count = len(tags)  # nothing is called, so no signal handler comes, while it is added
            self._claimed += count
            return [self._open.pop(each) for each in tags]

    def wait_until_sent(self, timeout: float) -> bool:
        """Wait until an outcome was sent for every claim; return whether that is so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._claimed <= 0, timeout)

    def settle_unopened(self, tag: int, outcome: Outcome) -> None:
        """Settle a delivery that was never open, so that no callback can settle it."""
        with self._lock:
            self._send(tag, outcome)

    def send(self, message: MessageT, outcome: Outcome) -> None:
        """Settle a message that was claimed.

        On a channel that is shut nothing is sent: the broker has taken the delivery back.
        """
        with self._lock:
            try:
                self._send(message.tag, outcome)
            finally:
                self._claimed -= 1
                if self._claimed <= 0:
                    self._changed.notify_all()
        if tracing.tracer is not None:
            tracing.tracer.settled(self.queue, outcome.value, message)

    def settle(self, tag: int, outcome: Outcome) -> bool:
        """Claim a delivery and settle it; return whether it was open."""
        with self._lock:
            message = self._open.pop(tag, None)
            if message is None:
                return False
            if not self._send(tag, outcome):
                self._open[tag] = message  # for `oldest`: it was not settled in time
        if tracing.tracer is not None:
            tracing.tracer.settled(self.queue, outcome.value, message)
        return True

    def flush(self) -> None:
        """Send the acks that are held back."""
        if self._held:
            with self._lock:
                try:
                    self._send_held()
                except MQError as error:
                    self._dropped("acks", error)

    def _time_is_up(self) -> None:
        self._flush_is_due = False
        self.flush()

    # -- with the lock -------------------------------------------------------------------------

    def _send(self, tag: int, outcome: Outcome) -> bool:
        """Send an outcome, or hold it back; return whether the channel was open."""
        channel = self.channel
        try:
            if outcome is Outcome.ACK and tag == self._lowest and channel.is_open:
                self._hold(tag)
                return True
            self._send_held()
            self._unsettled.discard(tag)
            self._advance()
            if outcome is Outcome.ACK:
                channel.ack(tag)
            elif outcome in (Outcome.REJECT, Outcome.REJECT_AND_REQUEUE):
                channel.reject(tag, requeue=outcome is Outcome.REJECT_AND_REQUEUE)
            else:
                channel.nack(tag, requeue=outcome is Outcome.NACK_AND_REQUEUE)
        except MQError as error:
            self._dropped(f"{outcome.value} of delivery {tag}", error)
            return False
        return True

    def _hold(self, tag: int) -> None:
        self._unsettled.remove(tag)
        self._last_held = tag
        self._held += 1
        self._advance()
        if self._held >= self.most_held:
            self._send_held()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self.channel.link.call_later(HOLD_FOR, self._time_is_up)

    def _send_held(self) -> None:
        held, self._held = self._held, 0
        if held:
            self.channel.ack(self._last_held, held > 1)

    def _advance(self) -> None:
        lowest, unsettled, newest = self._lowest, self._unsettled, self.newest
        while lowest <= newest and lowest not in unsettled:
            lowest += 1
        self._lowest = lowest

    def _dropped(self, what: str, error: MQError) -> None:
        LOG.info(
            "queue %r: %s dropped, the broker delivers it again: %s",
            self.queue,
            what,
            error,
            extra=log_fields(self.queue),
        )
