"""An answer in parts, and the queue that they wait in.

The parts are acknowledged one by one as they are read. So with a slow reader they wait at the
broker, and not in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from queue import Empty
from typing import Any, TypeVar

from neon_mq_connector.client.inbox import Inbox, run_on_thread
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, RequestSpec, is_end, is_final
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import REPLY_QUEUE_PREFIX, new_id
from neon_mq_connector.errors import MQError, WaitTimeoutError
from neon_mq_connector.link import ChannelEvents, LinkChannel, RawDelivery, delivery_tag
from neon_mq_connector.topology import BrokerFacts, Queue, Steps, declare_queue

PartT = TypeVar("PartT")

#: What may come: parts, or why there will be no more.
StreamEvent = Sequence[RawDelivery] | BaseException

_CLOSE_TIMEOUT = 3.0
#: How long the queue of a stream whose process was killed stays, in milliseconds; only where
#: services that declare it too need not do so with pika's defaults.
_EXPIRES = 300_000


class PartsQueue:
    """The queue of an answer in parts, and what came in; for one reader at a time.

    Args:
        channel: what the request is sent on; the parts come in on a channel of their own.
        spec: what is asked; its timeout is that of each part.
        prefetch_count: how many parts are fetched ahead.
        inbox: receives what comes.

    Attributes:
        name: of the queue.
        spec: the same.
    """

    def __init__(
        self,
        channel: ReplyChannel,
        spec: RequestSpec,
        prefetch_count: int,
        inbox: Inbox[StreamEvent],
    ) -> None:
        self.name = REPLY_QUEUE_PREFIX + new_id()
        self.spec = spec
        self._channel = channel
        self._connections = channel.shared.connections
        self._request = channel.request(spec, self._fail, self.name, direct=False)
        self._prefetch = prefetch_count
        self._inbox = inbox
        self._arrived: deque[RawDelivery] = deque()
        self._parts: LinkChannel | None = None
        self._unacknowledged: int | None = None  # the delivery tag of the part that the reader has

    def _fail(self, event: ReplyEvent) -> None:
        """Receive why the request has failed; its answers come into the queue."""
        if isinstance(event, BaseException):
            self._inbox.put(event)

    # -- calls that wait for the broker --------------------------------------------------------

    def open(self) -> None:
        """Make the queue and send the request.

        Raises:
            RequestTimeoutError: the broker was not ready in time.
            MQConnectionError: there is no connection.
        """
        deadline = self.spec.deadline
        try:
            self._parts = parts = self._connections.requests.open_channel(
                ChannelEvents(deliveries=self._inbox.put, shut=self._inbox.put),
                timeout=time_left(deadline),
            )
            self._connections.control.perform(
                f"declaring reply queue {self.name!r}",
                self._declare,
                timeout=time_left(deadline),
            )
            parts.consume(self.name, prefetch_count=self._prefetch, timeout=time_left(deadline))
            self._channel.start(self._request)
        except BaseException as error:
            self.delete()
            if isinstance(error, WaitTimeoutError):
                raise self.spec.not_sent(error) from error
            raise

    def delete(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Drop what was not read, and delete the queue; wait for so many seconds at most."""
        self._channel.remove(self._request)
        self._arrived.clear()
        if self._parts is not None:
            self._parts.close_soon()
            self._channel.shared.queues.delete(self.name, timeout)

    # -- the reader ----------------------------------------------------------------------------

    async def next_part(self) -> dict[str, Any]:
        """Acknowledge the part before, and wait for the next.

        Raises:
            RequestTimeoutError: it did not come in time.
            RequestLostError: the channel has ended; what was still to come is gone.
            RemoteError: the service has failed.
            DecodeError: the part cannot be read.
            MQError: the request has failed otherwise.
        """
        self._acknowledge()
        deadline = time.monotonic() + self.spec.timeout
        while (part := self._read_arrived()) is None:
            try:
                event = await self._inbox.get(deadline)
            except Empty:
                inbox = self._inbox.another()
                raise await self._channel.late(self._request, inbox, "part of the answer") from None
            if isinstance(event, BaseException):
                raise self._request.lost(event)
            self._channel.remove(self._request)  # it has reached the service
            self._arrived.extend(event)
        return part

    def is_mere_end(self, part: dict[str, Any]) -> bool:
        """Whether a part of what a handler yields only says that those before it were all."""
        return self.spec.read is not None and is_end(part)

    def _read_arrived(self) -> dict[str, Any] | None:
        while self._arrived:
            raw = self._arrived.popleft()
            self._unacknowledged = delivery_tag(raw[0])
            part = self._request.read(raw)
            if part is not None:
                return part
            self._acknowledge()  # of another request, in a queue that only this one named
        return None

    def _acknowledge(self) -> None:
        tag, self._unacknowledged = self._unacknowledged, None
        if tag is not None and self._parts is not None:
            with suppress(MQError):  # shut: the next wait says so
                self._parts.ack(tag)

    def _declare(self, facts: BrokerFacts) -> Steps:
        queue = Queue(self.name)  # old services declare it too, with pika's defaults
        if facts.refuses_transient_queues:
            queue = Queue(self.name, durable=True, arguments={"x-expires": _EXPIRES})
        return declare_queue(queue, facts)


class ReplyStream(Iterator[PartT], AbstractContextManager["ReplyStream[PartT]"]):
    """Iterate once over the parts of an answer, which come into a `PartsQueue`; for one thread.

    The end of a ``with`` block closes it.
    """

    _over = True  # until there is something to close

    def __init__(self, queue: PartsQueue) -> None:
        self._queue = queue
        self._over = False
        self._failure: MQError | None = None

    @property
    def reply_queue(self) -> str:
        """The name of the queue that the parts come into."""
        return self._queue.name

    def __next__(self) -> PartT:
        """Wait for the next part; raises what `RequestClient.request` raises."""
        if self._over:
            raise self._failure or StopIteration  # a failure must not be taken for the end
        try:
            part = run_on_thread(self._queue.next_part())
            if is_final(part):
                self.close()
        except BaseException as error:
            if isinstance(error, MQError):
                self._failure = error
            self.close()
            raise
        if self._queue.is_mere_end(part):
            return next(self)
        return self._queue.spec.convert(part)  # type: ignore[no-any-return]

    def __del__(self) -> None:
        """Close it when a loop over it was left, which has dropped it; do not wait."""
        if not self._over:
            with suppress(RuntimeError):  # the process ends
                self._queue.delete(0.0)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was not read; the queue is deleted. A second time does no harm."""
        if not self._over:
            self._over = True
            self._queue.delete()
