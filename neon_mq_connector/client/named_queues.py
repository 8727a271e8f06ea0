"""The reply queues that requests have named, each there as long as some request uses it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from neon_mq_connector.client.question import Question
from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, StoppedError, WaitTimeoutError
from neon_mq_connector.link import LinkChannel, Waiter
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.client")

#: How long a delete may take, in seconds; no request waits for it longer than for its answer.
_DELETE_TIMEOUT = 60.0


@dataclass(eq=False)
class NamedQueue:
    """One request's use of a queue.

    Attributes:
        name: of the queue.
        channel: what its answers come in on.
        deadline: until when the request waits for anything, on the monotonic clock, in seconds.
        consumer_tag: of the request's consumer; empty while there is none.
    """

    name: str
    channel: LinkChannel
    deadline: float
    consumer_tag: str = ""


class NamedQueues:
    """Make queues for answers, and delete each with its last user.

    Each user declares the queue and consumes from it. So nobody waits for what another one does,
    and it makes no difference who gets an answer: it is assigned by its correlation id. `_lock`
    owns which are in use, and is held for moments. A delete is handed over while it is held, so
    that it comes before the next user's declare.

    Args:
        connections: how to reach the broker.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._in_use: set[NamedQueue] = set()
        self._left_behind: set[str] = set()
        # reentrant: a signal handler may ask, too
        self._lock = threading.RLock()

    @contextmanager
    def use(self, channel: LinkChannel, name: str, question: Question) -> Iterator[None]:
        """Have a queue as long as a block lasts; arguments and errors as for `acquire`."""
        queue = self.acquire(channel, name, question)
        try:
            yield
        finally:
            self.release(queue)

    def acquire(self, channel: LinkChannel, name: str, question: Question) -> NamedQueue:
        """Declare a queue for answers and consume from it.

        Args:
            channel: what the answers are to come in on.
            name: of the queue.
            question: what is to be answered there.

        Returns:
            What `release` needs.

        Raises:
            RequestTimeoutError, MQConnectionError, TopologyError: the queue could not be made.
        """
        queue = NamedQueue(name, channel, question.deadline)
        try:
            with self._lock:
                self._in_use.add(queue)
            self.delete_left_behind()
            self._connections.control.perform(
                f"declaring reply queue {name!r}",
                lambda facts: declare_queue(Queue(name), facts),
                timeout=time_left(question.deadline),
            )
            queue.consumer_tag = channel.consume(
                name, auto_ack=True, timeout=time_left(question.deadline)
            )
        except BaseException as error:
            self.release(queue)  # the broker may have declared it all the same
            if isinstance(error, WaitTimeoutError):
                raise question.not_sent(error) from error
            raise
        return queue

    def release(self, queue: NamedQueue) -> None:
        """End a request's use of a queue; with the last of them the queue is deleted.

        That is waited for as long as the request has time left; it is done in any case.
        """
        if queue.consumer_tag and queue.channel.is_open:
            with suppress(MQError):  # shut: so is the consumer
                queue.channel.cancel(queue.consumer_tag)
        with self._lock:
            self._in_use.discard(queue)
            if self._is_used(queue.name):
                return
            deletion = self._delete(queue.name)
        with suppress(WaitTimeoutError):
            deletion.over.wait(time_left(queue.deadline), f"deleting reply queue {queue.name!r}")

    def delete_left_behind(self) -> None:
        """Delete, without waiting, what could not be deleted when its last user had gone."""
        if not self._left_behind:
            return
        with self._lock:
            names = [name for name in self._left_behind if not self._is_used(name)]
            self._left_behind.clear()
            for name in names:
                self._delete(name)

    def _is_used(self, name: str) -> bool:
        return any(queue.name == name for queue in self._in_use)

    def _delete(self, name: str) -> _Deletion:
        deletion = _Deletion(name, self._left_behind)
        try:
            self._connections.control.submit(
                lambda connection: connection.channel().queue_delete(name),
                deletion,
                timeout=_DELETE_TIMEOUT,
            )
        except StoppedError as error:
            deletion.fail(error)
        return deletion


class _Deletion:
    """What became of a delete.

    Args:
        name: of the queue.
        left_behind: takes the name if it failed.

    Attributes:
        over: answered when it is, in either way.
    """

    def __init__(self, name: str, left_behind: set[str]) -> None:
        self.over: Waiter[None] = Waiter()
        self._name = name
        self._left_behind = left_behind

    def resolve(self, _value: object) -> None:
        self.over.resolve(None)

    def fail(self, error: BaseException) -> None:
        LOG.warning("reply queue %r is left behind for now: %s", self._name, error)
        self._left_behind.add(self._name)
        self.over.resolve(None)
