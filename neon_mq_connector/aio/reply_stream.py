"""An answer in parts, read by a coroutine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.reply_stream import PartsQueue, StreamEvent
from neon_mq_connector.client.request import RequestSpec, is_final
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, RequestLostError, StoppedError, WaitTimeoutError

LOG = logging.getLogger("neon_mq_connector.client")

_ONE_READER = "this stream is being read by another task"
#: How long the end of a stream is waited for, in seconds.
_CLOSE_TIMEOUT = 4.0


class AsyncReplyStream:
    """The parts of an answer, to be read once, by one task at a time.

    The request is sent when the first part is asked for, or when an ``async with`` begins. The end
    of that deletes the queue of the parts; so does the end of an ``async for``, however it ends.
    (Where that is left by ``break`` with no ``async with`` around it, the loop sees to it a moment
    later.) Within an ``async with`` a wait for a part may be cancelled, and the part be asked for
    again.

    Args:
        spec: what is asked; its timeout is that of each part.
        prefetch_count: how many parts are fetched ahead.
        loop: where it is read.
        calls: makes the calls that wait for the broker.
        find: returns the channel that requests are sent on.
        on_end: called when its queue is gone.

    Example:
        >>> async with connector.stream({"to": 1000}, "count_input") as parts:
        ...     async for part in parts:
        ...         print(part["number"])
    """

    def __init__(
        self,
        spec: RequestSpec,
        prefetch_count: int,
        *,
        loop: CoroutineLoop,
        calls: BlockingCalls,
        find: Callable[[RequestSpec], Awaitable[ReplyChannel]],
        on_end: Callable[[AsyncReplyStream], object],
    ) -> None:
        self._spec = spec
        self._prefetch = prefetch_count
        self._loop = loop
        self._calls = calls
        self._find = find
        self._on_end = on_end
        self._events: deque[StreamEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._queue: PartsQueue | None = None
        self._reading = False
        self._iterating = False
        self._waiting = False
        self._entered = False
        self._over = False
        self._gone = asyncio.Event()
        self._failure: MQError | None = None

    @property
    def reply_queue(self) -> str:
        """The name of the queue that the parts come into; empty while there is none."""
        return "" if self._queue is None else self._queue.name

    async def __aenter__(self) -> AsyncReplyStream:
        """Send the request; close the stream at the end of the block."""
        self._entered = True
        await self._open()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Read the parts."""
        return self if self._entered else self._read_all()

    async def _read_all(self) -> AsyncIterator[dict[str, Any]]:
        """Read the parts and close the stream, also when nobody reads to the end."""
        if self._iterating and not self._over:
            raise RuntimeError(_ONE_READER)
        self._iterating = True
        try:
            while True:
                try:
                    part = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield part
        finally:
            await self.aclose()

    async def __anext__(self) -> dict[str, Any]:
        """Await the next part.

        Raises:
            StopAsyncIteration: the part before was the last, or the stream is closed.
            RequestTimeoutError: it did not come in time.
            RequestLostError: the connection ended; what was still to come is gone.
            UnroutableError: no queue takes the request.
            DecodeError: it cannot be read.
        """
        if self._failure is not None:
            raise self._failure
        if self._over:
            raise StopAsyncIteration
        if self._reading:
            raise RuntimeError(_ONE_READER)
        self._reading, self._waiting = True, False
        try:
            queue = self._queue or await self._open()
            queue.acknowledge()
            part = await self._next_part(queue)
            if is_final(part):
                queue.acknowledge()
                await self.aclose()
        except MQError as error:
            if self._over:  # what went wrong is that somebody else has closed it
                raise self._failure or StopAsyncIteration from None
            self._failure = error  # who asks once more is not to take it for the end
            await self.aclose()
            raise
        except BaseException as error:
            if self._entered and self._waiting and isinstance(error, asyncio.CancelledError):
                raise  # nothing is lost, and the end of the block closes it
            if not isinstance(error, StopAsyncIteration):
                self._failure = self._lost("its reading was interrupted")
            await self.aclose()
            raise
        finally:
            self._reading = False
        return part

    async def aclose(self) -> None:
        """Drop what was not read; the queue is deleted. A second time does no harm."""
        if self._over:
            return
        self._over = True
        self._wake()
        try:
            if self._queue is not None:
                await self._delete(self._queue)
        finally:
            self._gone.set()
            self._on_end(self)

    async def stop(self, error: MQError) -> None:
        """Close it on behalf of somebody who does not read it; whoever does gets the error."""
        if self._over:
            await self._gone.wait()
            return
        self._failure = self._lost(error)
        self._failure.__cause__ = error
        await self.aclose()

    # -- inside --------------------------------------------------------------------------------

    def _lost(self, reason: object) -> RequestLostError:
        return RequestLostError(f"a request to {self._spec.place}: {reason}")

    async def _open(self) -> PartsQueue:
        timeout = self._spec.timeout
        spec = self._spec._replace(deadline=time.monotonic() + timeout)
        # what the broker permits is known when there is a channel
        channel = await self._find(spec)
        queue = PartsQueue(channel, spec, self._prefetch, self._deliver)
        try:
            await self._calls.run(
                queue.open,
                timeout=time_left(spec.deadline),
                what="opening it",
                undo=lambda _: queue.delete(),
            )
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error
        self._queue = queue
        if self._over:  # closed by somebody else meanwhile
            await self._delete(queue)
            raise self._failure or StopAsyncIteration
        return queue

    async def _delete(self, queue: PartsQueue) -> None:
        try:
            await self._calls.run(
                queue.delete,
                timeout=_CLOSE_TIMEOUT,
                what=f"{queue}: closing the stream",
                in_any_case=True,
            )
        except WaitTimeoutError as error:
            LOG.warning("%s", error)  # it goes on

    async def _next_part(self, queue: PartsQueue) -> dict[str, Any]:
        deadline = time.monotonic() + queue.timeout
        while True:
            if self._failure is not None:
                raise self._failure
            part = queue.next_part()
            if part is not None:
                return part
            if not self._events:
                await self._something(queue, deadline)
                continue
            queue.take(self._events.popleft())

    async def _something(self, queue: PartsQueue, deadline: float) -> None:
        loop = self._loop.loop
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(time_left(deadline), _expire, waiter, queue)
        self._waiting = True
        try:
            await waiter
            self._waiting = False
        finally:
            self._waiter = None
            timer.cancel()
        if self._over and self._failure is None:
            raise StopAsyncIteration

    def _deliver(self, event: StreamEvent) -> None:
        """Hand what comes to the loop; called on the I/O thread."""
        try:
            self._loop.call(self._take, event)
        except StoppedError:
            LOG.debug("a stream: whoever reads it is gone with its loop")

    def _take(self, event: StreamEvent) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], queue: PartsQueue) -> None:
    if not waiter.done():
        waiter.set_exception(queue.late())
