"""A classic queue: its messages, its consumers, its limits, and what it does with dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from neon_mq_connector.testing.embedded.clock import Timer
from neon_mq_connector.testing.embedded.consumers import Consumer, RoundRobin
from neon_mq_connector.testing.embedded.errors import AMQPError, describe
from neon_mq_connector.testing.embedded.host import Host
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.ready import Entry, ReadyMessages, position_of
from neon_mq_connector.testing.embedded.tables import Table


@dataclass(eq=False)
class Queue:
    """A classic queue. Its methods raise `AMQPError` where RabbitMQ refuses an operation.

    Args:
        vhost: the virtual host that it is in.
        name: its name.
        durable: whether it survives a restart.
        auto_delete: whether it goes with its last consumer.
        owner: the connection that it belongs to; None unless it is exclusive.
        arguments: its arguments, checked before.
    """

    type = "classic"
    _watches_head = False

    vhost: Host
    name: str
    durable: bool
    auto_delete: bool
    owner: object | None
    arguments: Table

    def __post_init__(self) -> None:
        self.deleted = False
        self.unacknowledged = 0
        self.consumers = RoundRobin()
        #: the consumer that gets everything: of a single active one, or an exclusive one
        self.active: Consumer | None = None

        def argument(name: str) -> Any:
            field = self.arguments.get(name)
            return None if field is None else field.value

        self.single_active = bool(argument("x-single-active-consumer"))
        self.consumer_timeout: int | None = argument("x-consumer-timeout")
        self._time_to_live: int | None = argument("x-message-ttl")
        self._unused_limit: int | None = argument("x-expires")
        self._max_length: int | None = argument("x-max-length")
        self._max_bytes: int | None = argument("x-max-length-bytes")
        self._overflow: str = argument("x-overflow") or "drop-head"
        self._dead_letter_exchange: str | None = argument("x-dead-letter-exchange")
        self._dead_letter_key: str | None = argument("x-dead-letter-routing-key")
        self.ready = self._make_ready(argument("x-max-priority") or 0)
        self._next_position = 0
        self._had_consumers = False
        self._may_expire = False
        self._last_used = self.vhost.clock.now()
        self._message_timer: Timer | None = None
        self._unused_timer: Timer | None = None
        self._watch_use()

    # --- what it is

    def describe(self) -> str:
        """Return how errors name the queue."""
        return describe("queue", self.name, self.vhost.name)

    @property
    def consumer_count(self) -> int:
        """How many consumers a client is told of."""
        return len(self.consumers)

    def check_access(self, connection: object) -> None:
        """Refuse a connection that an exclusive queue does not belong to."""
        if self.owner is not None and self.owner is not connection:
            raise locked(self)

    def touch(self) -> None:
        """Restart the time after which the unused queue expires."""
        self._last_used = self.vhost.clock.now()

    # --- messages in

    def publish(self, message: Message) -> bool:
        """Take a message; return whether it was taken."""
        record = self.vhost.record
        length, size = len(self.ready) + 1, self.ready.size + len(message.body)
        if self._overflow != "drop-head" and self._exceeds(length, size):
            if self._overflow == "reject-publish-dlx":
                self._dead_letter(message, "maxlen")
            record(self.name, "refused", message)
            return False
        record(self.name, "published", message)
        self.vhost.shared.stored += message.footprint
        self._next_position += 1
        entry = Entry(message, self._next_position, self._expiry(message))
        if entry.expires is not None:
            self._may_expire = True
        # while messages wait, no consumer can take one
        consumer = None if self.ready else self._next_consumer()
        if consumer is not None:
            self._hand_over(entry, consumer)
            if self.ready:
                self.run()
            return True
        self.ready.put(entry)
        # as RabbitMQ has it: what is not the only one is looked at when its turn comes
        if self._drop_excess() or len(self.ready) == 1 or self._watches_head:
            self.expire()
        return True

    def requeue(self, entries: list[Entry], *, is_left: bool = False) -> None:
        """Take back messages that were delivered, to where they were.

        Args:
            entries: the messages.
            is_left: whether they come back because their channel ends.
        """
        returned = sorted(entries, key=position_of)
        self.unacknowledged -= len(returned)
        for entry in returned:
            entry.redelivered = True
            self.vhost.record(self.name, "requeued", entry.message)
        self.ready.put_back(returned)
        self._drop_excess()
        self.expire()
        self.run()

    # --- messages out

    def get(self, *, no_ack: bool) -> Entry | None:
        """Take the next message out, if there is one."""
        self.touch()
        entry = self.ready.take()
        if entry is None:
            return None
        self._leave(entry, no_ack)
        self.expire()
        return entry

    def run(self) -> None:
        """Deliver what waits to the consumers that may take it."""
        with self.vhost.dead_letters_last():
            while self.ready:
                consumer = self._next_consumer()
                if consumer is None:
                    return
                entry = self.ready.take()
                assert entry is not None
                self._hand_over(entry, consumer)
                self.expire()

    def wake(self) -> None:
        """Deliver again, after a consumer's limit was lifted."""
        if self.consumers.wake() or self.single_active:
            self.run()

    def acknowledge(self, entries: list[Entry]) -> None:
        """Forget messages that were consumed."""
        for entry in entries:
            self.unacknowledged -= 1
            self._forget(entry, "acked")

    def reject(self, entries: list[Entry]) -> None:
        """Drop messages that a consumer refused, or send them to the dead-letter exchange."""
        for entry in entries:
            self.unacknowledged -= 1
            self._forget(entry, "rejected")
            self._dead_letter(entry.message, "rejected")

    def purge(self) -> int:
        """Drop all ready messages; return how many there were."""
        entries = list(self.ready)
        self.ready.clear()
        for entry in entries:
            self._forget(entry, "purged")
        return len(entries)

    def expire(self) -> None:
        """Drop the messages at the head whose time is over, or dead-letter them."""
        if not self._may_expire:
            return
        now = self.vhost.clock.now()
        head = self.ready.head()
        while head is not None and head.expires is not None and head.expires <= now:
            self.ready.take()
            self._forget(head, "expired")
            self._dead_letter(head.message, "expired")
            head = self.ready.head()
        if head is not None and head.expires is not None:
            self._expire_at(head.expires, now)

    # --- consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Add a consumer; `run` is to be called when it has been told."""
        if self.single_active:
            refused = consumer.exclusive
        else:
            refused = self.active is not None or (consumer.exclusive and len(self.consumers) > 0)
        if refused:
            raise AMQPError(403, f"{self.describe()} in exclusive use")
        self.consumers.add(consumer)
        self._had_consumers = True
        if consumer.exclusive or (self.single_active and self.active is None):
            self.active = consumer

    def remove_consumer(self, consumer: Consumer) -> None:
        """Remove a consumer; its channel keeps what it holds. An auto-delete queue may go."""
        if not self.deleted:
            self._remove((consumer,))
            self.run()

    def leave(self, consumers: list[Consumer], entries: list[Entry]) -> None:
        """Remove the consumers of a channel that ends, and take back what it holds."""
        if consumers:
            self._remove(consumers)
        if not self.deleted:
            self.requeue(entries, is_left=True)

    def drop(self, entries: list[Entry]) -> None:
        """Forget messages that come back after the queue was deleted."""
        for entry in entries:
            self._forget(entry, None)

    # --- the queue's life

    def close(self) -> None:
        """Drop all messages and cancel the consumers."""
        self.deleted = True
        for timer in (self._message_timer, self._unused_timer):
            if timer is not None:
                timer.cancel()
        self.purge()
        if len(self.consumers):
            # only when the client that deleted it has got the answer
            self.vhost.clock.after(0, self._tell_consumers)

    def recover(self) -> None:
        """Keep what is persistent after a restart of the broker."""
        kept = []
        for entry in self.ready:
            if self._survives(entry.message):
                kept.append(entry)
            else:
                self._forget(entry, None)
        self.ready.keep(kept)
        self._message_timer = self._unused_timer = None
        self._last_used = self.vhost.clock.now()
        self._watch_use()
        self.expire()

    # --- inside

    def _make_ready(self, max_priority: int) -> ReadyMessages:
        return ReadyMessages(max_priority)

    def _survives(self, message: Message) -> bool:
        return message.properties.persistent

    def _next_consumer(self) -> Consumer | None:
        if not self.single_active:
            return self.consumers.next()
        return self.active if self.active is not None and self.active.may_take else None

    def _hand_over(self, entry: Entry, consumer: Consumer) -> None:
        if self.vhost.shared.faults.take("repetition"):
            again = Entry(entry.message, entry.position, None)
            again.redelivered = True
            self.ready.put_back([again])
            self.vhost.shared.stored += entry.message.footprint
        if not consumer.no_ack:
            consumer.count_taken()
        self._leave(entry, consumer.no_ack)
        consumer.outlet.deliver(consumer, entry)

    def _leave(self, entry: Entry, no_ack: bool) -> None:
        """Count a message that goes to a client."""
        self.vhost.record(self.name, "delivered", entry.message, entry.redelivered)
        if no_ack:
            self._forget(entry, None)
        else:
            self.unacknowledged += 1
            entry.delivered_at = self.vhost.clock.now()

    def _forget(self, entry: Entry, kind: str | None) -> None:
        self.vhost.shared.stored -= entry.message.footprint
        if kind is not None:
            self.vhost.record(self.name, kind, entry.message)

    def _remove(self, consumers: Iterable[Consumer]) -> None:
        for consumer in consumers:
            self.consumers.remove(consumer)
            if self.active is consumer:
                self.active = None
        if self.single_active and self.active is None:
            self.active = self.consumers.first()
        if self.auto_delete and self._had_consumers and not len(self.consumers):
            self.vhost.remove_queue(self.name)
        else:
            self.touch()
            self._watch_use()

    def _tell_consumers(self) -> None:
        for consumer in self.consumers.all():
            consumer.outlet.cancelled(consumer)

    def _exceeds(self, length: int, size: int) -> bool:
        return (self._max_length is not None and length > self._max_length) or (
            self._max_bytes is not None and size > self._max_bytes
        )

    def _drop_excess(self) -> bool:
        """Drop messages beyond the limits from the head; return whether there were any."""
        dropped = None
        while self._overflow == "drop-head" and self._exceeds(len(self.ready), self.ready.size):
            dropped = self.ready.take()
            assert dropped is not None  # limits are not negative
            self._forget(dropped, "dropped")
            self._dead_letter(dropped.message, "maxlen")
        return dropped is not None

    def _dead_letter(self, message: Message, reason: str) -> None:
        if self._dead_letter_exchange is not None:
            self.vhost.dead_letter(
                message.dead_lettered(
                    self.name,
                    reason,
                    self._dead_letter_exchange,
                    self._dead_letter_key,
                    int(self.vhost.clock.wall()),
                )
            )

    def _expiry(self, message: Message) -> float | None:
        limits = (self._time_to_live, message.time_to_live)
        shortest = min((each for each in limits if each is not None), default=None)
        return None if shortest is None else self.vhost.clock.now() + shortest

    def _expire_at(self, moment: float, now: float) -> None:
        timer = self._message_timer
        if timer is not None and timer.action is not None:
            if timer.due <= moment:
                return
            timer.cancel()
        self._message_timer = self.vhost.clock.after(moment - now, self.expire)

    def _watch_use(self) -> None:
        """Remove the queue once it was not used for as long as its arguments say."""
        if self._unused_limit is None or len(self.consumers):
            return
        if self._unused_timer is not None:
            self._unused_timer.cancel()
        rest = self._last_used + self._unused_limit - self.vhost.clock.now()
        if rest > 0:
            self._unused_timer = self.vhost.clock.after(rest, self._watch_use)
        else:
            self.vhost.remove_queue(self.name)


def locked(queue: Queue) -> AMQPError:
    """Return the error for a queue that belongs to another connection."""
    return AMQPError(
        405,
        f"cannot obtain exclusive access to locked {queue.describe()}. It could be originally "
        "declared on another connection or the exclusive property value does not match that of "
        "the original declaration.",
    )
