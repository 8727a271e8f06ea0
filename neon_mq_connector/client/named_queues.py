"""The reply queues that requests have named, each there as long as some request uses it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pika.exceptions as pika_errors

from neon_mq_connector.client.question import Question
from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, WaitTimeoutError
from neon_mq_connector.link import SelectChannel
from neon_mq_connector.threads.inside import Inside
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.client")

_DELETE_TIMEOUT = 3.0


@dataclass
class NamedQueue:
    """A queue, the consumer of its answers, and how many requests use it.

    Attributes:
        name: of the queue.
        channel: what its answers come in on.
        consumer_tag: of the consumer.
        users: how many requests use it.
    """

    name: str
    channel: SelectChannel
    consumer_tag: str
    users: int = 0


class NamedQueues:
    """Make queues for answers, and delete them; every method may wait for the broker.

    `_lock` owns which there are and who uses them, and is held while one is made or deleted.

    Args:
        connections: how to reach the broker.
        inside: where a thread is while it holds the lock.
    """

    def __init__(self, connections: Connections, inside: Inside) -> None:
        self._connections = connections
        self._inside = inside
        self._queues: dict[str, NamedQueue] = {}
        self._lock = threading.Lock()

    @contextmanager
    def use(self, channel: SelectChannel, name: str, question: Question) -> Iterator[None]:
        """Have a queue as long as a block lasts; arguments and errors as for `acquire`."""
        queue = self.acquire(channel, name, question)
        try:
            yield
        finally:
            self.release(queue)

    def acquire(self, channel: SelectChannel, name: str, question: Question) -> NamedQueue:
        """Have a queue for answers, shared with whoever uses one of that name.

        Args:
            channel: what the answers are to come in on.
            name: of the queue.
            question: what is to be answered there.

        Returns:
            What `release` needs.

        Raises:
            RequestTimeoutError, MQConnectionError, TopologyError: the queue could not be made.
        """
        with self._inside, self._lock:
            queue = self._queues.get(name)
            if queue is None or not queue.channel.is_open:
                try:
                    queue = self._open(channel, name, question.deadline)
                except WaitTimeoutError as error:
                    raise question.not_sent(error) from error
                self._queues[name] = queue
            queue.users += 1
            return queue

    def release(self, queue: NamedQueue) -> None:
        """Have the queue no longer; the last one to say so deletes it."""
        with self._inside, self._lock:
            queue.users -= 1
            if queue.users or self._queues.get(queue.name) is not queue:
                return  # in use, or another connection has one of that name
            del self._queues[queue.name]
            self._delete(queue)

    def _open(self, channel: SelectChannel, name: str, deadline: float) -> NamedQueue:
        self._connections.control.perform(
            f"declaring reply queue {name!r}",
            lambda facts: declare_queue(Queue(name), facts),
            timeout=time_left(deadline),
        )
        tag = channel.consume(name, auto_ack=True, timeout=time_left(deadline))
        return NamedQueue(name, channel, tag)

    def _delete(self, queue: NamedQueue) -> None:
        try:
            if queue.channel.is_open:
                queue.channel.cancel(queue.consumer_tag)
            self._connections.control.call(
                f"deleting reply queue {queue.name!r}",
                lambda channel: channel.queue_delete(queue.name),
                timeout=_DELETE_TIMEOUT,
            )
        except (MQError, pika_errors.AMQPError) as error:
            LOG.warning("reply queue %r is left behind: %s", queue.name, error)
