"""The queue of an answer in parts, whoever reads it and however.

The parts are acknowledged one by one as they are read: so a slow reader has them wait at the
broker, and not in its memory.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pika.exceptions as pika_errors

from neon_mq_connector.client.question import Question
from neon_mq_connector.client.request import answer_id, read_answer
from neon_mq_connector.client.shared import Shared
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import (
    LONGEST_EXPIRATION,
    REPLY_QUEUE_PREFIX,
    TIME_ALLOWED,
    new_id,
)
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    RequestLostError,
    RequestTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import (
    ChannelEvents,
    LinkChannel,
    RawDelivery,
    Returned,
    delivery_tag,
)
from neon_mq_connector.sending.outgoing import prepare
from neon_mq_connector.topology import BrokerFacts, Queue, Steps, declare_queue

LOG = logging.getLogger("neon_mq_connector.client")

#: What may come for it: parts, the request itself, or the end of the channel.
StreamEvent = Sequence[RawDelivery] | Returned | MQError

_CLOSE_TIMEOUT = 3.0
#: How long the queue of a stream whose process was killed stays, in milliseconds; only where those
#: who have to declare it as well need not do so with pika's defaults.
_EXPIRES = 300_000


class PartsQueue:
    """The queue of an answer in parts, and what came in; for one reader at a time.

    Args:
        shared: what the requests of the client share.
        question: what is asked; its timeout is that of each part.
        prefetch_count: how many parts are fetched ahead.
        deliver: called on the I/O thread with what comes, for `take` or `declare_and_publish`.

    Attributes:
        name: of the queue.
        timeout: how long each part may take, in seconds.
    """

    def __init__(
        self,
        shared: Shared,
        question: Question,
        prefetch_count: int,
        deliver: Callable[[StreamEvent], None],
    ) -> None:
        self.name = REPLY_QUEUE_PREFIX + new_id()
        self.timeout = question.timeout
        self._connections = shared.connections
        self._question = question
        self._outgoing = prepare(
            {**question.data, "routing_key": self.name},
            wire_format=question.wire_format,
            expiration=min(max(1.0, question.timeout * 1000), LONGEST_EXPIRATION),
            app_id=shared.owner,
            headers={TIME_ALLOWED: int(question.timeout * 1000)},
        )
        self._prefetch = prefetch_count
        self._deliver = deliver
        self._arrived: deque[RawDelivery] = deque()
        self._channel: LinkChannel | None = None
        self._unacknowledged: int | None = None  # the delivery tag of the part that the reader has
        self._declared = False

    def __str__(self) -> str:
        """Name the request by its id and where it goes."""
        return f"request {self._outgoing.message_id} to {self._question.place}"

    # -- what waits for the broker -------------------------------------------------------------

    def open(self) -> None:
        """Make the queue and send the request.

        Raises:
            RequestTimeoutError: the broker was not ready in time.
            MQConnectionError: there is no connection.
        """
        deadline = self._question.deadline
        try:
            self._channel = channel = self._connections.requests.open_channel(
                ChannelEvents(deliveries=self._deliver, returned=self._deliver, shut=self._deliver),
                timeout=time_left(deadline),
            )
            self._connections.control.perform(
                f"declaring reply queue {self.name!r}",
                self._declare,
                timeout=time_left(deadline),
            )
            channel.qos(self._prefetch, timeout=time_left(deadline))
            channel.consume(self.name, timeout=time_left(deadline))
            self._publish(deadline)
        except WaitTimeoutError as error:
            self.delete()
            raise RequestTimeoutError(f"{self}: not sent: {error}") from error
        except BaseException:
            self.delete()
            raise

    def declare_and_publish(self, deadline: float) -> None:
        """Declare the queue of the service, from which the request came back, and send it again.

        Args:
            deadline: until when to wait for the broker, on the monotonic clock, in seconds.

        Raises:
            UnroutableError: it was declared before.
            RequestTimeoutError: the broker did not answer in time.
            RequestLostError: the connection ended.
        """
        if self._declared:
            raise UnroutableError(f"{self}: no queue takes it", may_have_arrived=False)
        self._declared = True
        queue = self._question.queue
        try:
            self._connections.control.perform(
                f"declaring queue {queue!r}",
                lambda facts: declare_queue(Queue(queue), facts),
                timeout=time_left(deadline),
            )
            self._publish(deadline)
        except WaitTimeoutError as error:
            raise RequestTimeoutError(f"{self}: not sent: {error}") from error
        except MQConnectionError as error:
            raise RequestLostError(f"{self}: {error}") from error

    def delete(self) -> None:
        """Drop what was not read, and delete the queue."""
        self._arrived.clear()
        channel = self._channel
        if channel is None:
            return
        channel.close_soon()
        try:
            self._connections.control.call(
                f"deleting reply queue {self.name!r}",
                lambda control: control.queue_delete(self.name),
                timeout=_CLOSE_TIMEOUT,
            )
        except (MQError, pika_errors.AMQPError) as error:
            LOG.warning("reply queue %r is left behind: %s", self.name, error)

    # -- what does not -------------------------------------------------------------------------

    def take(self, event: Sequence[RawDelivery] | MQError) -> None:
        """Take what was delivered.

        Raises:
            RequestLostError: the channel has ended; what was still to come is gone.
        """
        if isinstance(event, MQError):
            raise RequestLostError(f"{self}: {event}") from event
        self._arrived.extend(event)

    def next_part(self) -> dict[str, Any] | None:
        """Give the next part, which `acknowledge` is to follow; None when it is not there yet.

        Raises:
            DecodeError: it cannot be read.
        """
        while self._arrived:
            raw = self._arrived.popleft()
            self._unacknowledged = delivery_tag(raw[0])
            part = read_answer(raw)
            owner = answer_id(part)
            if owner is None or owner == self._outgoing.message_id:
                return part
            self.acknowledge()  # somebody else's, in a queue that only this request named
        return None

    def acknowledge(self) -> None:
        """Acknowledge the part that the reader had."""
        tag, self._unacknowledged = self._unacknowledged, None
        if tag is not None and self._channel is not None:
            with contextlib.suppress(MQError):  # shut: the next wait says so
                self._channel.ack(tag)

    def late(self) -> RequestTimeoutError:
        """Make the error for a part that did not come in time."""
        return RequestTimeoutError(f"{self}: no part of the answer within {self.timeout:g} s")

    def _declare(self, facts: BrokerFacts) -> Steps:
        if facts.refuses_transient_queues:
            queue = Queue(self.name, durable=True, arguments={"x-expires": _EXPIRES})
        else:
            # old services declare it too, with pika's defaults
            queue = Queue(self.name)
        return declare_queue(queue, facts)

    def _publish(self, deadline: float) -> None:
        assert self._channel is not None
        self._channel.publish(
            "",
            self._question.queue,
            self._outgoing.body,
            self._outgoing.properties,
            mandatory=True,
            timeout=time_left(deadline),
        )
