"""Send acks that follow each other as one: an ack with ``multiple`` covers every lower tag.

So it may be sent only when every lower tag of the channel is settled or acknowledged by it. Acking
2 to 5 while 1 is still being handled would acknowledge 1 too.
"""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.errors import FrameError

#: How many tags may be missing between two deliveries; `_advance` goes through each of them.
_LARGEST_GAP = 2**20


class AckCoalescer:
    """Hold acks back while they follow each other without a gap; send all others at once.

    Its owner has to lock it.

    Args:
        send: sends ``(delivery tag, multiple)``.
    """

    def __init__(self, send: Callable[[int, bool], object]) -> None:
        #: How many acks may be held back; 1 for none.
        self.limit = 1
        #: The highest tag that was delivered.
        self.newest = 0
        #: How many are held back.
        self.held = 0
        self._send = send
        self._unsettled: set[int] = set()
        self._lowest = 1  # every delivered tag below is settled, or held back to be acked
        self._last_held = 0

    def delivered(self, first: int, last: int) -> None:
        """Note deliveries, in order; tags in between that were never noted are not ours.

        Raises:
            FrameError: no broker has delivered so many in between.
        """
        if first - self.newest > _LARGEST_GAP:
            raise FrameError(f"delivery tag {first} comes after {self.newest}")
        if first == last:
            self._unsettled.add(first)
        else:
            self._unsettled.update(range(first, last + 1))
        self.newest = last
        self._advance()

    def unsettled_count(self) -> int:
        """How many were delivered and are neither settled nor held back to be acked."""
        return len(self._unsettled)

    def unsent_count(self, since: int) -> int:
        """How many deliveries after a tag no outcome was sent for."""
        return sum(1 for tag in self._unsettled if tag > since) + self.held

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, now or with those that follow."""
        if tag != self._lowest:
            self.flush()
            self._unsettled.discard(tag)
            self._send(tag, False)
            return
        self._unsettled.remove(tag)
        self._last_held = tag
        self.held += 1
        self._advance()
        if self.held >= self.limit:
            self.flush()

    def settled_otherwise(self, tag: int) -> None:
        """Note that a delivery is about to be rejected or requeued; send the acks held back."""
        self.flush()
        self._unsettled.discard(tag)
        self._advance()

    def flush(self) -> None:
        """Send the acks that are held back."""
        held, self.held = self.held, 0
        if held:
            self._send(self._last_held, held > 1)

    def _advance(self) -> None:
        lowest, unsettled, newest = self._lowest, self._unsettled, self.newest
        while lowest <= newest and lowest not in unsettled:
            lowest += 1
        self._lowest = lowest
