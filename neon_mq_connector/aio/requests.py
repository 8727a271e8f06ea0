"""Requests from coroutines: `RequestClient` for one asyncio loop.

Requests are encoded and sent on the loop's thread. The I/O thread passes an answer to the loop,
which decodes it. So a request needs no thread of its own. Only calls that wait for the broker (a
connection, a declare) are made on other threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector import tracing
from neon_mq_connector.aio.blocking import BlockingCalls, wait_for
from neon_mq_connector.aio.futures import LoopFuture, LoopMailbox
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import AsyncSender, WriteRound
from neon_mq_connector.aio.reply_stream import AsyncReplyStream
from neon_mq_connector.client.answers import Answers
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.reply_stream import PartsQueue, StreamEvent
from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.client.request_client import RequestClient, check_count
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.message import Destination

T = TypeVar("T")

#: How long the end of a stream is waited for, in seconds.
_CLOSE_TIMEOUT = 4.0


class AsyncRequests:
    """Send requests over a client's connection, from the coroutines of one loop.

    All methods are called on the loop. To cancel the wait for an answer drops the answer.

    Args:
        client: has the connection; it is not closed here.
        loop: where the coroutines run.
        calls: makes the calls that wait for the broker.
        sender: sends messages that ask for no answer.
    """

    def __init__(
        self, client: RequestClient, loop: CoroutineLoop, calls: BlockingCalls, sender: AsyncSender
    ) -> None:
        self._client = client
        self._loop = loop
        self._calls = calls
        self._sender = sender
        self._round = WriteRound(loop, self._write_out)
        self._opening: LoopFuture[ReplyChannel] | None = None
        self._waiting: set[LoopMailbox[Any]] = set()
        self._streams: set[AsyncReplyStream[Any]] = set()
        self._stopped: StoppedError | None = None

    async def request(
        self,
        spec: RequestSpec,
        *,
        reply_queue: str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        on_reply_queue: Callable[[str], object] | None = None,
    ) -> Any:
        """Do as `RequestClient.request`; ``on_part`` is awaited if it is a coroutine function."""
        with tracing.requesting("", spec.queue):
            channel = await self._channel_for(spec)
            if on_reply_queue is not None:
                on_reply_queue(reply_queue or channel.reply_queue)
            if not reply_queue:
                return await self._ask(channel, spec, lambda answers: answers.final(on_part))
            queues = channel.shared.named_queues
            acquire = partial(queues.acquire, channel.channel, reply_queue, spec)
            what = f"declaring reply queue {reply_queue!r}"
            used = await self._call(spec, acquire, what, undo=queues.release)
            try:
                return await self._ask(
                    channel, spec, lambda answers: answers.final(on_part), reply_queue
                )
            finally:
                await self._clean_up(partial(queues.release, used), time_left(spec.deadline))

    async def gather(self, spec: RequestSpec, *, count: int | None = None) -> list[dict[str, Any]]:
        """Do as `RequestClient.gather`."""
        check_count(count)
        with tracing.requesting(spec.exchange, spec.queue):
            channel = await self._channel_for(spec)
            return await self._ask(channel, spec, lambda answers: answers.gather(count))

    def stream(self, spec: RequestSpec, *, prefetch_count: int = 32) -> AsyncReplyStream[Any]:
        """Do as `RequestClient.stream`; the request is sent when the first part is awaited."""
        return AsyncReplyStream(
            spec,
            self._loop,
            open_queue=partial(self._open_parts, spec, prefetch_count),
            delete_queue=lambda queue: self._clean_up(queue.delete, _CLOSE_TIMEOUT),
            open_streams=self._streams,
        )

    async def send(self, spec: RequestSpec) -> str:
        """Do as `RequestClient.send`."""
        with tracing.publishing("", spec.queue):
            encoded = spec.encode(self._client.owner)
            destination = Destination(queue=spec.queue)
            return await self._sender.send_and_wait(destination, encoded, timeout=spec.timeout)

    async def stop(self, error: StoppedError) -> None:
        """Fail the requests that wait, and close the streams."""
        self._stopped = error
        for inbox in self._waiting:
            inbox.put_here(error)
        await asyncio.gather(*(stream.stop(error) for stream in tuple(self._streams)))

    # -- calls that wait for the broker --------------------------------------------------------

    async def _call(
        self, spec: RequestSpec, function: Callable[[], T], what: str, **options: Any
    ) -> T:
        """Make a call that comes before the sending of a request, within the request's time."""
        try:
            return await self._calls.run(
                function, timeout=time_left(spec.deadline), what=what, **options
            )
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error

    async def _channel_for(self, spec: RequestSpec) -> ReplyChannel:
        if spec.exchange:
            look_up = partial(self._client.channel_for, spec)
            return await self._call(spec, look_up, f"looking up {spec.place}")
        return self._client.open_channel or await self._open_channel(spec)

    async def _open_channel(self, spec: RequestSpec) -> ReplyChannel:
        """Open the channel; all requests that need it await one attempt, with a time of its own."""
        client = self._client
        while True:
            if self._stopped is not None:
                raise self._stopped
            opening = self._opening
            if opening is None or opening.is_done:
                deadline = time.monotonic() + client.connections.policy.operation_timeout
                opening = self._opening = self._calls.begin(partial(client.open, deadline))
            try:
                return await wait_for(opening, time_left(spec.deadline), "opening the connection")
            except WaitTimeoutError as error:
                if not time_left(spec.deadline):
                    raise spec.not_sent(error) from error

    async def _open_parts(
        self, spec: RequestSpec, prefetch_count: int, inbox: LoopMailbox[StreamEvent]
    ) -> PartsQueue:
        spec.restart()
        queue = PartsQueue(await self._channel_for(spec), spec, prefetch_count, inbox)
        await self._call(spec, queue.open, "opening it", undo=lambda _: queue.delete())
        return queue

    async def _clean_up(self, function: Callable[[], object], timeout: float) -> None:
        with suppress(WaitTimeoutError):  # it goes on
            await self._calls.run(function, timeout=timeout, what="deleting it", in_any_case=True)

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
        inbox: LoopMailbox[Any] = LoopMailbox(self._loop)
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
        await self._call(
            request.spec, partial(channel.publish, request, timeout=left), "sending it"
        )

    def _write_out(self) -> None:
        channel = self._client.open_channel
        if channel is not None:
            channel.channel.flush()
