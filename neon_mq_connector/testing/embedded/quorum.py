"""A quorum queue on one node: it counts deliveries and limits them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.ready import Entry, ReadyMessages

_DEFAULT_LIMIT = 20
_HIGH_PRIORITY = 5
_RETURNED, _HIGH, _NORMAL = range(3)
#: After so many messages the next is the oldest, so that none of normal priority waits for ever.
_ROUND = 2


class ReturnedFirst(ReadyMessages):
    """The waiting messages of a quorum queue.

    What was returned comes first, in the order in which it came back. The rest has two priorities.
    """

    def __init__(self) -> None:
        super().__init__(_NORMAL)
        self._count = 0

    def put_back(self, entries: list[Entry]) -> None:
        """Put requeued messages behind those that were requeued before."""
        self._levels[_RETURNED].extend(entries)
        self.size += sum(len(entry.message.body) for entry in entries)

    def take(self) -> Entry | None:
        """Take the next message out."""
        is_returned = bool(self._levels[_RETURNED])
        entry = super().take()
        if not is_returned:
            self._count = (self._count + 1) % (_ROUND + 1)
        return entry

    def _next_level(self) -> deque[Entry]:
        returned, high, normal = self._levels
        if returned:
            return returned
        if self._count == _ROUND and high and normal and normal[0].position < high[0].position:
            return normal
        return high or normal

    def _level(self, message: Message) -> int:
        return _HIGH if (message.priority or 0) >= _HIGH_PRIORITY else _NORMAL


class QuorumQueue(Queue):
    """A queue whose messages all survive and come back a limited number of times.

    Unlike in a classic queue, what is returned does not go to its old place but behind what was
    returned before; it is delivered ahead of all else.
    """

    type = "quorum"
    _watches_head = True

    @property
    def consumer_count(self) -> int:
        """How many consumers a client is told of.

        Each fetched message counts as one, and so does a cancelled consumer that holds some.
        """
        waiting = max(len(self.consumers) - 1, 0) if self.single_active else 0
        known = {(each.outlet, each.tag) for each in self.consumers.all()}
        holding = {(each.outlet, each.tag) for each in self._holders.values() if each is not None}
        fetched = list(self._holders.values()).count(None)
        return len(self.consumers) - waiting + len(holding - known) + fetched

    @property
    def delivery_limit(self) -> int | None:
        """How often a message may come back; None for no limit."""
        argument = self.arguments.get("x-delivery-limit")
        limit: int = _DEFAULT_LIMIT if argument is None else argument.value
        return None if limit < 0 else limit

    def get(self, *, no_ack: bool) -> Entry | None:
        """Take the next message out, if there is one."""
        if self.single_active:
            raise AMQPError(
                405,
                f"cannot obtain access to locked {self.describe()}. basic.get operations are not "
                "supported by quorum queues with single active consumer",
            )
        entry = super().get(no_ack=no_ack)
        if entry is not None and not no_ack:
            self._holders[entry] = None
        return entry

    def requeue(self, entries: list[Entry], *, is_left: bool = False) -> None:
        """Take back messages that were delivered; drop those that have come back too often."""
        limit = self.delivery_limit
        returned = []
        for entry in entries:
            self._holders.pop(entry, None)
            entry.deliveries += 1
            if limit is None or entry.deliveries <= limit:
                returned.append(entry)
                continue
            self.unacknowledged -= 1
            self._forget(entry, "limited")
            message = entry.message
            if is_left:  # the next quorum queue tells of it
                rejections = message.rejections + entry.deliveries
                message = replace(message, rejections=rejections)
            self._dead_letter(message, "delivery_limit")
        super().requeue(returned)

    def add_consumer(self, consumer: Consumer) -> None:
        """Add a consumer; `run` is to be called when it has been told."""
        if consumer.outlet.prefetch_limit:
            raise AMQPError(540, f"{self.describe()} does not support global qos")
        consumer.exclusive = consumer.shares_limit = False
        super().add_consumer(consumer)

    def _make_ready(self, max_priority: int) -> ReadyMessages:
        #: who holds the messages that are not settled; None for a fetched one
        self._holders: dict[Entry, Consumer | None] = {}
        return ReturnedFirst()

    def _hand_over(self, entry: Entry, consumer: Consumer) -> None:
        if not consumer.no_ack:
            self._holders[entry] = consumer
        super()._hand_over(entry, consumer)

    def _leave(self, entry: Entry, no_ack: bool) -> None:
        if entry.message.rejections:
            entry.initial_deliveries = entry.message.rejections
            entry.redelivered = True
        super()._leave(entry, no_ack)

    def _dead_letter(self, message: Message, reason: str) -> None:
        if reason == "rejected":  # the next quorum queue tells of it
            message = replace(message, rejections=message.rejections + 1)
        super()._dead_letter(message, reason)

    def _forget(self, entry: Entry, kind: str | None) -> None:
        self._holders.pop(entry, None)
        super()._forget(entry, kind)

    def _survives(self, message: Message) -> bool:
        return True
