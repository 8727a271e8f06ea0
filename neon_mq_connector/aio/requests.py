"""Requests from coroutines: `RequestClient` for one asyncio loop.

Requests are encoded and sent on the loop's thread. The I/O thread passes an answer to the loop,
which decodes it. So a request needs no thread of its own. Only calls that wait for the broker (a
connection, a declare) are made on other threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from neon_mq_connector import tracing
from neon_mq_connector.aio.blocking import BlockingCalls, wait_for
from neon_mq_connector.aio.futures import LoopMailbox
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import AsyncSender, WriteRound
from neon_mq_connector.client.answers import Answers
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.reply_stream import PartsQueue, StreamEvent
from neon_mq_connector.client.request import RequestSpec, is_final
from neon_mq_connector.client.request_client import RequestClient, check_count
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, RequestLostError, StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.message import Destination

T = TypeVar("T")
PartT = TypeVar("PartT")

#: How long the end of a stream is waited for, in seconds.
_CLOSE_TIMEOUT = 4.0


class AsyncRequests:
    """Send requests over a client's connection, from the coroutines of one loop.

    All methods are called on the loop. To cancel the wait for an answer drops the answer. The
    client is not closed here.

    Attributes:
        streams: those that are open.
    """

    def __init__(
        self, client: RequestClient, loop: CoroutineLoop, calls: BlockingCalls, sender: AsyncSender
    ) -> None:
        self._client = client
        self.loop = loop
        self.calls = calls
        self._sender = sender
        self._round = WriteRound(loop, self._write_out)
        self._opening: Future[ReplyChannel] | None = None
        self._waiting: set[LoopMailbox[Any]] = set()
        self.streams: set[AsyncReplyStream[Any]] = set()
        self._stopped: StoppedError | None = None

    async def request(
        self,
        spec: RequestSpec,
        *,
        reply_queue: str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        on_reply_queue: Callable[[str], object] | None = None,
    ) -> Any:
        """Send a request and await its answer; see `RequestClient.request`.

        ``on_part`` is awaited if it is a coroutine function.
        """
        with tracing.requesting("", spec.queue):
            channel = await self.channel_for(spec)
            if on_reply_queue is not None:
                on_reply_queue(reply_queue or channel.reply_queue)
            if not reply_queue:
                return await self._ask(channel, spec, lambda answers: answers.final(on_part))
            acquire = partial(channel.shared.queues.acquire, channel.channel, reply_queue, spec)
            what = f"declaring reply queue {reply_queue!r}"
            release = await self.call(spec, acquire, what, undo=lambda release: release())
            try:
                return await self._ask(
                    channel, spec, lambda answers: answers.final(on_part), reply_queue
                )
            finally:
                await clean_up(self.calls.submit(release), time_left(spec.deadline))

    async def gather(self, spec: RequestSpec, *, count: int | None = None) -> list[dict[str, Any]]:
        """Send one request to several services; see `RequestClient.gather`."""
        check_count(count)
        with tracing.requesting(spec.exchange, spec.queue):
            channel = await self.channel_for(spec)
            return await self._ask(channel, spec, lambda answers: answers.gather(count))

    def stream(self, spec: RequestSpec, *, prefetch_count: int = 32) -> AsyncReplyStream[Any]:
        """Return the parts of an answer; the request is sent when the first of them is awaited."""
        return AsyncReplyStream(self, spec, prefetch_count)

    async def send(self, spec: RequestSpec) -> str:
        """Send a message that asks for no answer; see `RequestClient.send`."""
        with tracing.publishing("", spec.queue):
            encoded = spec.encode(self._client.owner)
            destination = Destination(queue=spec.queue)
            return await self._sender.send_and_wait(destination, encoded, timeout=spec.timeout)

    def stop(self, error: StoppedError) -> None:
        """Fail the requests that wait, and begin to close the streams."""
        self._stopped = error
        for inbox in self._waiting:
            inbox.put_here(error)
        for stream in tuple(self.streams):
            stream.end(stream.lost(error))

    # -- calls that wait for the broker --------------------------------------------------------

    async def call(
        self, spec: RequestSpec, function: Callable[[], T], what: str, **options: Any
    ) -> T:
        """Make a call that comes before the sending of a request, within the request's time."""
        try:
            return await self.calls.run(
                function, timeout=time_left(spec.deadline), what=what, **options
            )
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error

    async def channel_for(self, spec: RequestSpec) -> ReplyChannel:
        """Return the channel that a request is sent on; see `RequestClient.channel_for`."""
        if spec.exchange:
            look_up = partial(self._client.channel_for, spec)
            return await self.call(spec, look_up, f"looking up {spec.place}")
        return self._client.open_channel or await self._open_channel(spec)

    async def _open_channel(self, spec: RequestSpec) -> ReplyChannel:
        """Open the channel; all requests that need it await one attempt, with a time of its own."""
        client = self._client
        while True:
            if self._stopped is not None:
                raise self._stopped
            if self._opening is None or self._opening.done():
                deadline = time.monotonic() + client.connections.policy.operation_timeout
                self._opening = self.calls.submit(partial(client.open, deadline))
            left = time_left(spec.deadline)
            try:
                return await wait_for(self._opening, left, "opening the connection")
            except WaitTimeoutError as error:
                if not time_left(spec.deadline):
                    raise spec.not_sent(error) from error

    # -- one request ---------------------------------------------------------------------------

    async def _ask(
        self,
        channel: ReplyChannel,
        spec: RequestSpec,
        read: Callable[[Answers], Awaitable[T]],
        reply_queue: str = "",
    ) -> T:
        if self._stopped is not None:
            raise self._stopped
        inbox: LoopMailbox[Any] = LoopMailbox(self.loop)
        answers = Answers(channel, spec, inbox, reply_queue)
        self._waiting.add(inbox)
        try:
            await self._send(answers)
            return await read(answers)
        finally:
            self._waiting.discard(inbox)
            channel.remove(answers.request)

    async def _send(self, answers: Answers) -> None:
        channel, request = answers.channel, answers.request
        channel.add(request)
        if channel.channel.is_writable:
            channel.publish(request, self._round.next_flush())
            return
        left = time_left(request.spec.deadline)
        await self.call(request.spec, partial(channel.publish, request, timeout=left), "sending it")

    def _write_out(self) -> None:
        channel = self._client.open_channel
        if channel is not None:
            channel.channel.flush()


async def clean_up(call: Future[None], timeout: float) -> None:
    """Wait for at most so many seconds for a call that deletes something; it goes on."""
    with suppress(WaitTimeoutError):
        await wait_for(call, timeout, "deleting it")


class AsyncReplyStream(Generic[PartT]):
    """Iterate once over the parts of an answer, in one task at a time.

    The request is sent when the first part is awaited, or when an ``async with`` begins. The end of
    the ``async with`` deletes the queue of the parts. So does the end of an ``async for``; after a
    ``break`` without an ``async with`` around it, the loop does so a moment later. A wait for a
    part may be cancelled, and the part be awaited again.

    Examples:
        >>> async with connector.stream({"to": 1000}, "count_input") as parts:
        ...     async for part in parts:
        ...         print(part["number"])
    """

    def __init__(self, requests: AsyncRequests, spec: RequestSpec, prefetch_count: int) -> None:
        self._requests = requests
        self._spec = spec
        self._prefetch = prefetch_count
        self._events: LoopMailbox[StreamEvent] = LoopMailbox(requests.loop)
        self._queue: PartsQueue | None = None
        self._has_reader = False
        self._in_block = False
        self._over = False
        self._failure: MQError | None = None
        self._deleting: Future[None] | None = None

    @property
    def reply_queue(self) -> str:
        """The name of the queue that the parts come into; empty while there is none."""
        return "" if self._queue is None else self._queue.name

    async def __aenter__(self) -> AsyncReplyStream[PartT]:
        """Send the request; close the stream at the end of the block."""
        self._in_block = True
        try:
            if not self._over:
                await self._open()
        except StopAsyncIteration:
            pass  # another task has closed it meanwhile: there is nothing to read
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[PartT]:
        """Read the parts."""
        return self if self._in_block else self._read_all()

    async def _read_all(self) -> AsyncIterator[PartT]:
        """Read the parts and close the stream, also when they are not read to the end."""
        with suppress(StopAsyncIteration):
            try:
                while True:
                    yield await anext(self)
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
        if self._has_reader:
            raise RuntimeError("this stream is being read by another task")
        self._check_open()
        self._has_reader = True
        try:
            queue = self._queue or await self._open()
            part = await queue.next_part()
        except MQError as error:
            self._check_open()  # where another task closed it, that is the reason
            self.end(error)  # a further call must not take it for the end
            raise
        finally:
            self._has_reader = False
        if is_final(part):
            self.end()
        if queue.is_mere_end(part):
            raise StopAsyncIteration
        return self._spec.convert(part)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Drop what was not read; the queue is deleted. A second time does no harm."""
        self.end()
        if self._deleting is not None:
            await clean_up(self._deleting, _CLOSE_TIMEOUT)

    def end(self, failure: MQError | None = None) -> None:
        """Begin to delete the queue; a reader gets the failure, or the end if there is none."""
        if self._over:
            return
        self._over, self._failure = True, failure
        self._events.put_here(StoppedError("the stream was closed"))  # for a task that reads it
        self._requests.streams.discard(self)
        if self._queue is not None:
            self._deleting = self._requests.calls.submit(self._queue.delete)

    def lost(self, reason: object) -> RequestLostError:
        """Return the error for a reader whose stream ends before its last part."""
        lost = RequestLostError(f"a request to {self._spec.place}: {reason}")
        lost.__cause__ = reason if isinstance(reason, MQError) else None
        return lost

    # -- inside --------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._over:
            raise self._failure or StopAsyncIteration

    async def _open(self) -> PartsQueue:
        requests, spec = self._requests, self._spec
        requests.streams.add(self)
        spec.restart()
        try:
            channel = await requests.channel_for(spec)
            queue = PartsQueue(channel, spec, self._prefetch, self._events)
            await requests.call(spec, queue.open, "opening it", undo=lambda _: queue.delete())
        except asyncio.CancelledError:
            self.end(self.lost("its sending was interrupted"))
            raise
        if self._over:  # another task has closed it meanwhile
            self._deleting = requests.calls.submit(queue.delete)
            self._check_open()
        self._queue = queue
        return queue
