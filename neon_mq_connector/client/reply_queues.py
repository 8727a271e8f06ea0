"""The queues for answers: that of a client, and those that requests name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pika.spec import ACCESS_REFUSED, BasicProperties

from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.connections import Connections
from neon_mq_connector.control.control import single
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO, REPLY_QUEUE_PREFIX, new_id
from neon_mq_connector.errors import MQError, RequestLostError, StoppedError, WaitTimeoutError
from neon_mq_connector.link import CallbackAnswer, LinkChannel, Waiter
from neon_mq_connector.topology import (
    TRANSIENT_REFUSED,
    BrokerFacts,
    Queue,
    QueueStatus,
    Refusal,
    Steps,
    declare_queue,
)

LOG = logging.getLogger("neon_mq_connector.client")

#: How long a delete may take, in seconds; no request waits for it longer than for its answer.
_DELETE_TIMEOUT = 60.0


class ReplyQueues:
    """The reply queue of a client, those that requests have named, and the delete of each.

    A named queue is deleted when no request uses it any more. Each request declares it and consumes
    from it. So none waits for another, and it makes no difference which consumer gets an answer: it
    is assigned by its correlation id.

    `_lock` owns `_in_use`, the name by each use, and is held for moments. A delete is submitted
    while it is held, so that it comes before the next request's declare.

    Args:
        connections: how to reach the broker.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._own = REPLY_QUEUE_PREFIX + new_id()
        self._own_declared = False
        self._in_use: dict[object, str] = {}
        self._left_behind: set[str] = set()
        # reentrant: a signal handler that stops the service may interrupt its holder
        self._lock = threading.RLock()

    def declare_own(self, deadline: float) -> str:
        """Declare the reply queue of the client: plain, as old services, too, can declare it.

        Returns:
            The name; empty where such a queue is not permitted. Where the user may declare no queue
            it is `DIRECT_REPLY_TO`: services that know direct reply-to can still answer.
        """
        self._own_declared = True  # from the attempt on there may be a queue to delete
        what, control = f"declaring reply queue {self._own!r}", self._connections.control
        return control.perform(what, self._declare_own, timeout=time_left(deadline)).name

    def _declare_own(self, facts: BrokerFacts) -> Steps:
        try:
            if facts.refuses_transient_queues:
                # whether a queue may be declared by which the direct name is learned
                exclusive: QueueStatus = yield Queue("", exclusive=True).declare()
                yield Queue(exclusive.name).delete()
                return QueueStatus("")
            status: QueueStatus = yield Queue(self._own).declare()
        except Refusal as refusal:
            if refusal.code == ACCESS_REFUSED:
                return QueueStatus(DIRECT_REPLY_TO)
            if refusal.code not in TRANSIENT_REFUSED:
                raise
            facts.refuses_transient_queues = True
            return (yield from self._declare_own(facts))
        return status

    def delete_all(self, timeout: float) -> None:
        """Delete what may be left, at the end; wait for the client's own for so many seconds."""
        self.delete_left_behind()
        if self._own_declared:
            self.delete(self._own, timeout)

    def acquire(self, channel: LinkChannel, name: str, spec: RequestSpec) -> Callable[[], None]:
        """Declare a queue and consume from it, until the function that is returned is called.

        That deletes the queue if no other request uses it, and waits for this as long as the
        request has time left; it is done in any case.

        Raises:
            RequestTimeoutError, MQConnectionError, TopologyError: the queue could not be made.
            TypeError, ValueError: the name cannot be used.
        """
        described = Queue(name)  # a name that cannot be used is refused before anything is done
        use, consumer_tag = object(), ""

        def release() -> None:
            if consumer_tag and channel.is_open:
                with suppress(MQError):  # shut: so is the consumer
                    channel.cancel(consumer_tag)
            with self._lock:
                self._in_use.pop(use, None)
                if name in self._in_use.values():
                    return
                deleted = self.delete_soon(name)
            with suppress(WaitTimeoutError):
                deleted.wait(time_left(spec.deadline), "deleting a reply queue")

        try:
            with self._lock:
                self._in_use[use] = name
            self.delete_left_behind()
            self._connections.control.perform(
                f"declaring reply queue {name!r}",
                lambda facts: declare_queue(described, facts),
                timeout=time_left(spec.deadline),
            )
            consumer_tag = channel.consume(name, auto_ack=True, timeout=time_left(spec.deadline))
        except BaseException as error:
            release()  # the broker may have declared it all the same
            if isinstance(error, WaitTimeoutError):
                raise spec.not_sent(error) from error
            raise
        return release

    def delete_left_behind(self) -> None:
        """Delete queues that could not be deleted when they were released; do not wait."""
        if not self._left_behind:
            return
        with self._lock:
            names = self._left_behind.difference(self._in_use.values())
            self._left_behind.clear()
            for name in names:
                self.delete_soon(name)

    def delete(self, name: str, timeout: float) -> None:
        """Delete a queue that one request has used; wait for that for so many seconds at most."""
        with suppress(WaitTimeoutError):
            self.delete_soon(name).wait(timeout, "deleting a reply queue")

    def delete_soon(self, name: str) -> Waiter[Any]:
        """Delete a queue; what is returned is answered when that has ended, in either way."""
        ended: Waiter[Any] = Waiter()

        def failed(error: BaseException) -> None:
            LOG.info("reply queue %r is left behind for now: %s", name, error)
            self._left_behind.add(name)
            ended.resolve(None)

        try:
            self._connections.control.submit(
                f"deleting reply queue {name!r}",
                single(Queue(name).delete()),
                CallbackAnswer(ended.resolve, failed),
                timeout=_DELETE_TIMEOUT,
            )
        except StoppedError as error:
            failed(error)
        return ended


def learn_direct_name(channel: LinkChannel, deadline: float) -> str:
    """Return the name by which the direct reply-to of a channel can be published to.

    The broker writes it into ``reply_to`` of each message; so one is sent to an exclusive queue and
    read back. The channel has to consume from direct reply-to.

    Raises:
        RequestLostError: the broker did not tell.
    """
    own = Queue("", exclusive=True).declare()
    queue = channel.perform(own, timeout=time_left(deadline)).name
    properties = BasicProperties(reply_to=DIRECT_REPLY_TO)
    channel.send(channel.encode("", queue, b"", properties))
    _method, received, _body = channel.get(queue, True, timeout=time_left(deadline))
    channel.perform(Queue(queue).delete(), timeout=time_left(deadline))
    if received is None or not received.reply_to:
        raise RequestLostError("the broker did not tell the direct reply-to name of this client")
    return str(received.reply_to)
