"""What a channel consumes: deliveries, what becomes of them, and limits on them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

from pika.spec import Basic

from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.frames import FrameWriter
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.ready import Entry
from neon_mq_connector.testing.embedded.tables import encode_short_string

#: What a client did with a delivery.
ACK, REJECT, REQUEUE = "ack", "reject", "requeue"

_tag_and_redelivered = struct.Struct(">Q?").pack


class Delivery(NamedTuple):
    """A message that a client has and has not settled.

    Attributes:
        tag: its delivery tag.
        entry: the message.
        queue: the queue that it came from.
        consumer: who got it; None when it was fetched by Basic.Get.
    """

    tag: int
    entry: Entry
    queue: Queue
    consumer: Consumer | None


class Subscription(NamedTuple):
    """A consumer with its queue."""

    consumer: Consumer
    queue: Queue


class Consuming:
    """The consuming side of a channel; its consumers' deliveries go out here.

    Args:
        writer: sends frames to the client.
        notifies_cancel: whether the client wants to know when a queue of its consumers is gone.

    Attributes:
        congested: whether the client does not read what it was sent.
        prefetch_count: how many messages a new consumer may hold; 0 for no limit.
        prefetch_limit: how many deliveries all consumers may hold; 0 for no limit.
        prefetched: how many they hold.
        subscriptions: the consumers by their tags.
        unsettled: the deliveries that wait to be settled, by their tags, in their order.
        reply_tag: the consumer tag under which answers to the channel itself are delivered.
    """

    def __init__(self, writer: FrameWriter, *, notifies_cancel: bool) -> None:
        self.congested = False
        self.prefetch_count = 0
        self.prefetch_limit = 0
        self.prefetched = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.unsettled: dict[int, Delivery] = {}
        self.reply_tag: str | None = None
        self._writer = writer
        self._notifies_cancel = notifies_cancel
        self._next_tag = 1

    # --- out

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a message to the client; unless the consumer acks nothing, keep it for its ack."""
        queue = None if consumer.no_ack else self.subscriptions[consumer.tag].queue
        arguments = consumer.encoded_tag + self._new_delivery(entry, queue, consumer)
        self._writer.message(Basic.Deliver.INDEX, arguments, entry.header, entry.message.body)

    def deliver_answer(self, message: Message) -> None:
        """Send what was published to the channel's direct reply-to address."""
        if self.reply_tag is None:
            return
        # RabbitMQ does not count these: a reply has the tag of the delivery that comes next
        tag = _tag_and_redelivered(self._next_tag, False)
        arguments = encode_short_string(self.reply_tag) + tag + message.origin
        self._writer.message(Basic.Deliver.INDEX, arguments, message.header, message.body)

    def get(self, queue: Queue, *, no_ack: bool) -> bool:
        """Send the next message of a queue; return whether there was one."""
        with queue.vhost.dead_letters_last():
            entry = queue.get(no_ack=no_ack)
            if entry is None:
                return False
            delivery = self._new_delivery(entry, None if no_ack else queue, None)
            arguments = delivery + len(queue.ready).to_bytes(4, "big")
            self._writer.message(Basic.GetOk.INDEX, arguments, entry.header, entry.message.body)
        return True

    def cancelled(self, consumer: Consumer) -> None:
        """Drop a consumer whose queue is gone, and tell the client if it wants to know."""
        subscription = self.subscriptions.get(consumer.tag)
        if subscription is None or subscription.consumer is not consumer:
            return
        del self.subscriptions[consumer.tag]
        if self._notifies_cancel:
            self._writer.method(Basic.Cancel(consumer.tag, nowait=True))

    def check_timeouts(self, default: int, now: float) -> None:
        """End the channel if its client has held a message for too long.

        Args:
            default: how long that is where the queue does not say, in milliseconds.
            now: the time of the clock.

        Raises:
            AMQPError: 406.
        """
        oldest = next(iter(self.unsettled.values()), None)
        if oldest is None:
            return
        limit = oldest.queue.consumer_timeout or default
        if oldest.entry.delivered_at + limit < now:
            raise AMQPError(
                406,
                f"delivery acknowledgement on channel {self._writer.channel} timed out. Timeout "
                f"value used: {limit} ms. This timeout value can be configured, see consumers doc "
                "guide to learn more",
            )

    def _new_delivery(self, entry: Entry, queue: Queue | None, consumer: Consumer | None) -> bytes:
        """Number a delivery, and keep it if it comes from a queue that waits for its ack.

        Returns:
            The arguments from the delivery tag to the routing key.
        """
        tag = self._next_tag
        self._next_tag = tag + 1
        if queue is not None:
            self.unsettled[tag] = Delivery(tag, entry, queue, consumer)
        return _tag_and_redelivered(tag, entry.redelivered) + entry.message.origin

    # --- back

    def take(self, tag: int, *, multiple: bool) -> list[Delivery]:
        """Remove and return the deliveries that the client settles, in their order.

        Args:
            tag: of the delivery; 0 with `multiple` for all.
            multiple: whether all before it are settled too.

        Raises:
            AMQPError: 406, there is no such delivery.
        """
        takes_all = multiple and tag == 0
        if not takes_all and tag not in self.unsettled:
            raise AMQPError(406, f"unknown delivery tag {tag}")
        tags = [tag]
        if multiple:
            tags = list(takewhile(lambda each: takes_all or each <= tag, self.unsettled))
        return [self.unsettled.pop(each) for each in tags]

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Restore deliveries that were not settled after all."""
        restored = {each.tag: each for each in deliveries} | self.unsettled
        self.unsettled = dict(sorted(restored.items()))

    def settle(self, deliveries: list[Delivery], how: str) -> None:
        """Settle deliveries at their queues."""
        full = 0 < self.prefetch_limit <= self.prefetched
        if len(deliveries) == 1:
            delivery = deliveries[0]
            self._settle_group(delivery.queue, delivery.consumer, [delivery.entry], how)
        elif deliveries:
            groups: dict[tuple[Queue, Consumer | None], list[Entry]] = {}
            for each in deliveries:
                groups.setdefault((each.queue, each.consumer), []).append(each.entry)
            with deliveries[0].queue.vhost.dead_letters_last():
                for (queue, consumer), entries in sorted(groups.items(), key=_in_order):
                    self._settle_group(queue, consumer, entries, how)
        if full:
            self.wake()

    def wake(self) -> None:
        """Deliver again, after a limit of the channel was lifted."""
        for queue in dict.fromkeys(each.queue for each in self.subscriptions.values()):
            queue.wake()

    def set_limit(self, limit: int) -> None:
        """Set how many deliveries all consumers may hold."""
        self.prefetch_limit = limit
        self.wake()

    def close(self) -> None:
        """Remove all consumers and requeue all deliveries."""
        held: dict[Queue, list[Entry]] = {}
        consumers: dict[Queue, list[Consumer]] = {}
        for consumer, queue in self.subscriptions.values():
            consumers.setdefault(queue, []).append(consumer)
            held.setdefault(queue, [])
        for delivery in self.unsettled.values():
            held.setdefault(delivery.queue, []).append(delivery.entry)
        self.subscriptions.clear()
        self.unsettled.clear()
        if not held:
            return
        # no dead letter reaches a queue that has still to be left
        with next(iter(held)).vhost.dead_letters_last():
            for queue, entries in held.items():
                if queue.deleted:
                    queue.drop(entries)
                else:
                    queue.leave(consumers.get(queue, []), entries)

    def _settle_group(
        self, queue: Queue, consumer: Consumer | None, entries: list[Entry], how: str
    ) -> None:
        if consumer is not None:
            consumer.count_settled(len(entries))
        if queue.deleted:
            queue.drop(entries)
            return
        if how == ACK:
            queue.acknowledge(entries)
        elif how == REJECT:
            queue.reject(entries)
        else:
            queue.requeue(entries)
        if consumer is not None and (consumer.waits or queue.single_active):
            queue.wake()


def _in_order(group: tuple[tuple[Queue, Consumer | None], list[Entry]]) -> tuple[str, str]:
    """Return by what RabbitMQ sorts what is settled together."""
    queue, consumer = group[0]
    return queue.name, "" if consumer is None else consumer.tag
