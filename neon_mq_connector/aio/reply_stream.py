"""An answer in parts, read by a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from neon_mq_connector.aio.futures import LoopMailbox
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.client.reply_stream import PartsQueue, StreamEvent
from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.errors import MQError, RequestLostError, StoppedError

PartT = TypeVar("PartT")


class AsyncReplyStream(Generic[PartT]):
    """Iterate once over the parts of an answer, in one task at a time.

    The request is sent when the first part is awaited, or when an ``async with`` begins. The end of
    the ``async with`` deletes the queue of the parts. So does the end of an ``async for``; after a
    ``break`` without an ``async with`` around it, the loop does so a moment later. A wait for a
    part may be cancelled, and the part be awaited again.

    Args:
        spec: what is asked; its timeout is that of each part.
        loop: where it is read.
        open_queue: makes the queue, whose events come into an inbox, and sends the request.
        delete_queue: deletes the queue.
        open_streams: contains the stream while it is open.

    Examples:
        >>> async with connector.stream({"to": 1000}, "count_input") as parts:
        ...     async for part in parts:
        ...         print(part["number"])
    """

    def __init__(
        self,
        spec: RequestSpec,
        loop: CoroutineLoop,
        *,
        open_queue: Callable[[LoopMailbox[StreamEvent]], Awaitable[PartsQueue]],
        delete_queue: Callable[[PartsQueue], Awaitable[None]],
        open_streams: set[AsyncReplyStream[Any]],
    ) -> None:
        self._spec = spec
        self._open_queue = open_queue
        self._delete_queue = delete_queue
        self._open_streams = open_streams
        self._events: LoopMailbox[StreamEvent] = LoopMailbox(loop)
        self._queue: PartsQueue | None = None
        self._has_reader = False
        self._in_block = False
        self._over = False
        self._failure: MQError | None = None

    @property
    def reply_queue(self) -> str:
        """The name of the queue that the parts come into; empty while there is none."""
        return "" if self._queue is None else self._queue.name

    async def __aenter__(self) -> AsyncReplyStream[PartT]:
        """Send the request; close the stream at the end of the block."""
        self._in_block = True
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[PartT]:
        """Read the parts."""
        return self if self._in_block else self._read_all()

    async def _read_all(self) -> AsyncIterator[PartT]:
        """Read the parts and close the stream, also when they are not read to the end."""
        with self._reading(), suppress(StopAsyncIteration):
            try:
                while True:
                    yield await self._next()
            finally:
                await self.aclose()

    async def __anext__(self) -> PartT:
        """Await the next part.

        Raises:
            StopAsyncIteration: the part before was the last, or the stream is closed.
            RequestTimeoutError: it did not come in time.
            RequestLostError: the connection ended; what was still to come is gone.
            UnroutableError: no queue takes the request.
            RemoteError: the service has failed.
            DecodeError: it cannot be read.
        """
        with self._reading():
            return await self._next()

    async def aclose(self) -> None:
        """Drop what was not read; the queue is deleted. A second time does no harm."""
        if self._over:
            return
        self._over = True
        self._events.put_here(StoppedError("the stream was closed"))  # for a task that reads it
        try:
            if self._queue is not None:
                await self._delete_queue(self._queue)
        finally:
            self._open_streams.discard(self)

    async def stop(self, error: MQError) -> None:
        """Close it because the connector stops; a reader gets the error."""
        if not self._over:
            self._failure = self._lost(error)
            await self.aclose()

    # -- inside --------------------------------------------------------------------------------

    def _lost(self, reason: object) -> RequestLostError:
        lost = RequestLostError(f"a request to {self._spec.place}: {reason}")
        lost.__cause__ = reason if isinstance(reason, MQError) else None
        return lost

    def _check_open(self) -> None:
        if self._over:
            raise self._failure or StopAsyncIteration

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._has_reader:
            raise RuntimeError("this stream is being read by another task")
        self._has_reader = True
        try:
            yield
        finally:
            self._has_reader = False

    async def _open(self) -> PartsQueue:
        self._open_streams.add(self)
        queue = self._queue = await self._open_queue(self._events)
        if self._over:  # closed by another task meanwhile
            await self._delete_queue(queue)
            self._check_open()
        return queue

    async def _next(self) -> PartT:
        self._check_open()
        try:
            queue = self._queue or await self._open()
            part = await queue.next_part()
            if queue.is_complete:
                await self.aclose()
        except MQError as error:
            self._check_open()  # where another task closed it, that is the reason
            self._failure = error  # a further call must not take it for the end
            await self.aclose()
            raise
        except asyncio.CancelledError:
            if self._over or self._queue is None:  # the last part, or the request, is lost
                self._failure = self._failure or self._lost("its reading was interrupted")
                await self.aclose()
            raise
        if queue.is_mere_end(part):
            return await self._next()
        return self._spec.convert(part)  # type: ignore[no-any-return]
