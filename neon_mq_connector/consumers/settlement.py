"""The books of one generation of a consuming channel: which deliveries are open.

A delivery tag means something only on the channel on which it came, and may be settled once. The
broker closes the channel of whoever settles a tag twice; so every settlement passes through here.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from neon_mq_connector.consumers.ack_coalescer import AckCoalescer
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Delivery, LinkChannel

LOG = logging.getLogger("neon_mq_connector.consumers")

#: How long an ack may be held back for those that follow, in seconds.
HOLD_FOR = 0.01


class Verdict(enum.Enum):
    """How a delivery is settled: done; failed (the broker drops or dead-letters it); given back."""

    ACK = "ack"
    REJECT = "reject"
    REJECT_AND_REQUEUE = "reject and requeue"
    NACK = "nack"
    NACK_AND_REQUEUE = "nack and requeue"


#: Makes a named tuple in half the time.
_new_item = tuple.__new__


class OpenDelivery(NamedTuple):
    """A message that was handed to its callback and is not settled.

    Attributes:
        tag: its delivery tag.
        delivery: the message.
        attempt: which try this is, from 1.
        since: when it was handed over, on the monotonic clock, in seconds.
    """

    tag: int
    delivery: Delivery
    attempt: int
    since: float


class Settlement:
    """Open deliveries of one channel; every method may be called from any thread.

    `_books` owns the books. A delivery is *open* from the moment its callback starts until
    somebody claims it; whoever claims it sends exactly one verdict, now or later. Acks that follow
    each other leave as one: `hold_up_to` of them, or those of 10 ms, or what there is at `flush`.

    Args:
        channel: where the deliveries came.
        queue: the name of their queue, for messages.
        later: has some thread call something after a number of seconds.
    """

    def __init__(
        self,
        channel: LinkChannel,
        queue: str,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._later = later
        self._books = threading.RLock()
        self._changed = threading.Condition(self._books)
        self._open: dict[int, OpenDelivery] = {}
        self._claimed = 0
        self._acks = AckCoalescer(channel.ack)
        self._flush_is_due = False

    def hold_up_to(self, count: int) -> None:
        """Say how many acks may be held back; 1 for none."""
        with self._books:
            self._acks.limit = max(1, count)

    def delivered(self, first: int, last: int) -> None:
        """Note deliveries from one tag to another, before any of them can be settled."""
        with self._books:
            self._acks.delivered(first, last)

    def start(self, delivery: Delivery, attempt: int = 1, since: float | None = None) -> None:
        """Note that a delivery is handed to its callback.

        Args:
            delivery: the message.
            attempt: which try this is, from 1; the later ones were claimed when they failed.
            since: when, on the monotonic clock, in seconds; now by default.
        """
        tag = delivery.method.delivery_tag
        if since is None:
            since = time.monotonic()
        item: OpenDelivery = _new_item(OpenDelivery, (tag, delivery, attempt, since))
        if attempt == 1 and tag <= self._acks.newest:
            self._open[tag] = item
            return
        with self._books:
            self._open[tag] = item
            if attempt > 1:
                self._claimed -= 1
            elif tag > self._acks.newest:
                self._acks.delivered(tag, tag)

    def is_open(self, tag: int) -> bool:
        """Whether nobody has claimed the delivery yet."""
        return tag in self._open

    def open_count(self) -> int:
        """How many deliveries were handed to a callback and are not settled."""
        return len(self._open)

    def unsettled_count(self) -> int:
        """How many were delivered and are not settled, about: a hint."""
        return self._acks.unsettled_count()

    @property
    def newest(self) -> int:
        """The tag of the latest delivery."""
        return self._acks.newest

    def call_if_unsent(self, count: int, since: int, call: Callable[[], object]) -> None:
        """Call something if nothing was sent for so many deliveries, and before something is.

        Args:
            count: how many.
            since: only deliveries after this tag count.
            call: must not wait.
        """
        with self._books:
            if self._acks.unsent_count(since) >= count:
                call()

    def oldest(self) -> OpenDelivery | None:
        """The open delivery that was handed over first."""
        with self._books:
            return min(list(self._open.values()), key=lambda each: each.since, default=None)

    def claim(self, tag: int, *, multiple: bool = False) -> list[OpenDelivery]:
        """Take the right to settle a delivery, or all open ones up to it.

        Args:
            tag: the delivery tag; with ``multiple``, 0 means all.
            multiple: take all that were handed to a callback up to this tag.

        Returns:
            What the caller now has to settle, by tag; empty when somebody did already.
        """
        with self._books:
            if multiple:
                tags = sorted(t for t in list(self._open) if tag == 0 or t <= tag)
            else:
                tags = [tag] if tag in self._open else []
            count = len(tags)  # nothing is called, so no signal handler comes, while it is added
            self._claimed += count
            return [self._open.pop(each) for each in tags]

    def wait_until_sent(self, timeout: float) -> bool:
        """Wait until every claim has been followed by its verdict.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether that is so.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._claimed <= 0, timeout)

    def give_back(self, tag: int) -> None:
        """Return a delivery that was never handed to a callback."""
        with self._books:
            self._claimed += 1
        self.send(tag, Verdict.NACK_AND_REQUEUE)

    def acknowledge_unseen(self, tag: int) -> None:
        """Acknowledge a delivery that no callback is to see: a duplicate, or one too late."""
        with self._books:
            self._claimed += 1
        self.send(tag, Verdict.ACK)

    def send(self, tag: int, verdict: Verdict) -> None:
        """Tell the broker of a delivery that was claimed.

        On a channel that is shut nothing is sent: the broker has taken the delivery back.
        """
        with self._books:
            try:
                self._tell(tag, verdict)
            finally:
                self._claimed -= 1
                if self._claimed <= 0:
                    self._changed.notify_all()

    def settle(self, tag: int, verdict: Verdict, *, multiple: bool = False) -> bool:
        """Claim and send.

        Returns:
            Whether there was anything to settle.
        """
        if multiple:
            claimed = self.claim(tag, multiple=True)
            for each in claimed:
                self.send(each.tag, verdict)
            return bool(claimed)
        with self._books:
            if self._open.pop(tag, None) is None:
                return False
            self._tell(tag, verdict)
        return True

    def acknowledge(self, tag: int) -> bool:
        """Claim a delivery and acknowledge it; `settle` for what most callbacks do.

        Returns:
            Whether there was anything to settle.
        """
        with self._books:
            if self._open.pop(tag, None) is None:
                return False
            self._ack(tag)
        return True

    def flush(self) -> None:
        """Send the acks that are held back."""
        if self._acks.held:
            with self._books:
                try:
                    self._acks.flush()
                except MQError as error:
                    self._dropped("acks", error)

    def _time_is_up(self) -> None:
        self._flush_is_due = False
        self.flush()

    # -- with the lock -------------------------------------------------------------------------

    def _tell(self, tag: int, verdict: Verdict) -> None:
        if verdict is Verdict.ACK:
            self._ack(tag)
            return
        channel = self._channel
        try:
            self._acks.settled_otherwise(tag)
            if verdict in (Verdict.REJECT, Verdict.REJECT_AND_REQUEUE):
                channel.reject(tag, requeue=verdict is Verdict.REJECT_AND_REQUEUE)
            else:
                channel.nack(tag, requeue=verdict is Verdict.NACK_AND_REQUEUE)
        except MQError as error:
            self._dropped(f"{verdict.value} of delivery {tag}", error)

    def _ack(self, tag: int) -> None:
        acks = self._acks
        try:
            acks.ack(tag)
            if acks.held and not self._flush_is_due:
                self._flush_later()
        except MQError as error:
            self._dropped(f"ack of delivery {tag}", error)

    def _flush_later(self) -> None:
        if self._later is None:
            self._acks.flush()
            return
        self._flush_is_due = True
        self._later(HOLD_FOR, self._time_is_up)

    def _dropped(self, what: str, error: MQError) -> None:
        LOG.info("queue %r: %s dropped, the broker delivers it again: %s", self._queue, what, error)
