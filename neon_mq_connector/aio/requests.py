"""Asking services from coroutines: what `RequestClient` does for threads, for one asyncio loop.

Requests are encoded and sent on the loop's thread; an answer goes from the I/O thread straight to
the loop, which decodes it. So a request costs no thread of its own. Only what has to wait for the
broker (a connection, a declare) is done elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from neon_mq_connector.aio.awaited_request import AwaitedRequest
from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CallersLoop, CoroutineLoop
from neon_mq_connector.aio.reply_stream import AsyncReplyStream
from neon_mq_connector.aio.sending import AsyncSender
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import RequestSpec, is_final
from neon_mq_connector.client.request_client import RequestClient, check_count
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import RequestTimeoutError, StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.encoded_message import prepare_encoded
from neon_mq_connector.publishing.message import Destination, Flush

#: So many requests of one round of the loop are written at once.
_TOGETHER = 32


class AsyncRequests:
    """Ask by a client, from the coroutines of one loop; nothing here is for other threads.

    Args:
        client: what is asked by; it is not closed here.
        loop: where the coroutines run.
        calls: makes the calls that wait for the broker.
    """

    def __init__(self, client: RequestClient, loop: CoroutineLoop, calls: BlockingCalls) -> None:
        self._client = client
        self._loop = loop
        self._calls = calls
        self._sender = AsyncSender(client.connections, loop, calls)
        self._unwritten: ReplyChannel | None = None
        self._unwritten_count = 0
        self._pending: set[AwaitedRequest] = set()
        self._streams: set[AsyncReplyStream] = set()
        self._stopped: StoppedError | None = None

    @property
    def client(self) -> RequestClient:
        """What is asked by."""
        return self._client

    async def request(
        self,
        queue: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,
        exchange: str = "",
        reply_queue: str | None = None,
        wire_format: WireFormat = WireFormat.LEGACY,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        on_reply_queue: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """Send a request and await its answer; when that is cancelled, the answer is dropped.

        Args:
            queue: the queue that the service consumes; the routing key where there is an exchange.
            data: the request; it is not changed.
            timeout: how long to wait at most, in seconds. The request expires after it.
            exchange: the exchange to publish to; empty for the default one.
            reply_queue: have a queue of this name made for the answer, and deleted afterwards.
            wire_format: how to encode the request; the answer is understood in either.
            on_part: for an answer that comes in parts: called with each of them, the last included,
                and awaited if it is a coroutine function.
            on_reply_queue: called with the name that the request carries as ``routing_key``.

        Returns:
            The answer; of one in parts the last, which says ``is_final`` or ``_is_final``.

        Raises:
            Exception: as `RequestClient.request`.
        """
        spec = RequestSpec.of(queue, data, timeout, wire_format, exchange)
        channel = None if exchange else self._client.open_channel
        if channel is None:
            channel = await self._channel_for(spec)
        if not reply_queue:
            if on_reply_queue is not None:
                on_reply_queue(channel.reply_queue)
            return await self._ask(channel, spec, "", on_part)
        async with self._named_queue(channel, reply_queue, spec):
            if on_reply_queue is not None:
                on_reply_queue(reply_queue)
            return await self._ask(channel, spec, reply_queue, on_part)

    async def gather(
        self,
        queue: str,
        data: Mapping[str, Any],
        *,
        count: int | None = None,
        timeout: float = 30.0,
        exchange: str = "",
        wire_format: WireFormat = WireFormat.LEGACY,
    ) -> list[dict[str, Any]]:
        """Send one request to several services and collect their answers.

        Args:
            queue: the routing key; for a fanout exchange it may be empty.
            data: the request; it is not changed.
            count: return when so many answers are there; None to wait for the time.
            timeout: how long to collect, in seconds. The request expires after it.
            exchange: the exchange that hands the request to each of the services.
            wire_format: how to encode the request.

        Returns:
            The answers in the order in which they came; when the time is up there may be fewer
            than ``count``, or none.

        Raises:
            Exception: as `RequestClient.gather`.
        """
        spec = RequestSpec.of(queue, data, timeout, wire_format, exchange)
        check_count(count)
        answers: list[dict[str, Any]] = []
        request = AwaitedRequest(self._loop, await self._channel_for(spec), spec)
        try:
            await self._send(request)
            while count is None or len(answers) < count:
                try:
                    answers.append(await request.next_answer())
                except RequestTimeoutError:
                    break
        finally:
            self._end(request)
        return answers

    def stream(
        self,
        queue: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,
        prefetch_count: int = 32,
        wire_format: WireFormat = WireFormat.LEGACY,
    ) -> AsyncReplyStream:
        """Ask for an answer in parts, which is sent when the first of them is awaited.

        Args:
            queue: the queue that the service consumes.
            data: the request; it is not changed.
            timeout: how long the first part, and each further one, may take, in seconds.
            prefetch_count: how many parts are fetched ahead.
            wire_format: how to encode the request.

        Returns:
            The parts, for ``async for`` and ``async with``; reading them raises as `request`.

        Raises:
            TypeError, ValueError: the data is no dict, or is empty.
        """
        stream = AsyncReplyStream(
            RequestSpec.of(queue, data, timeout, wire_format),
            prefetch_count,
            loop=self._loop,
            calls=self._calls,
            find=self._channel_for,
            on_end=self._streams.discard,
        )
        self._streams.add(stream)
        return stream

    async def send(
        self,
        queue: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,
        wire_format: WireFormat = WireFormat.LEGACY,
        expiration: float | None = None,
    ) -> str:
        """Send a message that asks for no answer, and wait until the broker has it.

        Args:
            queue: the queue, declared if it is missing.
            data: the message; it is not changed.
            timeout: how long to wait for the broker, in seconds.
            wire_format: how to encode it.
            expiration: how long it may wait in the queue, in milliseconds; None for ever.

        Returns:
            The message's id.

        Raises:
            Exception: as `RequestClient.send`.
        """
        encoded = prepare_encoded(
            data, wire_format=wire_format, expiration=expiration, app_id=self._client.owner
        )
        return await self._sender.send(Destination(queue=queue), encoded, timeout=timeout)

    async def stop(self, reason: str) -> None:
        """End what is awaited with a `StoppedError`, and close the streams.

        Args:
            reason: what the error is to say.
        """
        error = self._stopped = StoppedError(reason)
        for request in tuple(self._pending):
            request.take(error)
        await asyncio.gather(*(stream.stop(error) for stream in tuple(self._streams)))

    # -- the channel ---------------------------------------------------------------------------

    async def _channel_for(self, spec: RequestSpec) -> ReplyChannel:
        try:
            if not spec.exchange:
                return await self._open_channel(spec.deadline)
            return await self._calls.run(
                partial(self._client.channel_for, spec),
                timeout=time_left(spec.deadline),
                what=f"looking up {spec.place}",
            )
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error

    async def _open_channel(self, deadline: float) -> ReplyChannel:
        """Return the open channel; all who need it await one attempt to open it."""
        while True:
            if self._stopped is not None:
                raise self._stopped
            channel = self._client.open_channel
            if channel is not None:
                return channel
            try:
                await self._calls.share(
                    self._client,
                    self._open,
                    timeout=time_left(deadline),
                    what="opening the request connection",
                )
            except WaitTimeoutError:
                if time_left(deadline) == 0:
                    raise

    def _open(self) -> None:
        client = self._client
        client.open(time.monotonic() + client.connections.policy.operation_timeout)

    @asynccontextmanager
    async def _named_queue(
        self, channel: ReplyChannel, name: str, spec: RequestSpec
    ) -> AsyncIterator[None]:
        """Have a reply queue of that name as long as the block lasts."""
        queues = channel.shared.named_queues
        try:
            queue = await self._calls.run(
                partial(queues.acquire, channel.channel, name, spec),
                timeout=time_left(spec.deadline),
                what=f"declaring reply queue {name!r}",
                undo=queues.release,
            )
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error
        try:
            yield
        finally:
            with suppress(WaitTimeoutError):  # it goes on
                await self._calls.run(
                    partial(queues.release, queue),
                    timeout=time_left(spec.deadline),
                    what=f"deleting reply queue {name!r}",
                    in_any_case=True,
                )

    # -- one request ---------------------------------------------------------------------------

    async def _ask(
        self,
        channel: ReplyChannel,
        spec: RequestSpec,
        address: str,
        on_part: Callable[[dict[str, Any]], object] | None,
    ) -> dict[str, Any]:
        request = AwaitedRequest(self._loop, channel, spec, address)
        try:
            await self._send(request)
            while True:
                answer = await request.next_answer()
                if on_part is None:
                    return answer
                result = on_part(answer)
                if inspect.isawaitable(result):
                    await result
                if is_final(answer):
                    return answer
        finally:
            self._end(request)

    async def _send(self, request: AwaitedRequest) -> None:
        if self._stopped is not None:
            raise self._stopped
        self._pending.add(request)
        channel = request.channel
        channel.add(request.request)
        if not channel.is_writable:
            await request.publish_when_writable(self._calls)
            return
        unwritten = self._unwritten
        if unwritten is not channel:
            # what follows in this round of the loop is written at its end
            channel.publish(request.request)
            if unwritten is None:
                self._unwritten = channel
                self._loop.loop.call_soon(self._write)
            return
        self._unwritten_count += 1
        if self._unwritten_count < _TOGETHER:
            channel.publish(request.request, Flush.HELD)
        else:
            self._unwritten_count = 0
            channel.publish(request.request)

    def _write(self) -> None:
        channel, self._unwritten = self._unwritten, None
        if self._unwritten_count and channel is not None:
            self._unwritten_count = 0
            channel.flush()

    def _end(self, request: AwaitedRequest) -> None:
        self._pending.discard(request)
        request.end()


class _OneLoop:
    """What one loop asks with, by whichever client."""

    def __init__(self) -> None:
        self._loop = CallersLoop()
        self.calls = BlockingCalls("mq-await:requests", self._loop)
        self._requests: dict[RequestClient, AsyncRequests] = {}

    def requests_by(self, client: RequestClient) -> AsyncRequests:
        requests = self._requests.get(client)
        if requests is None:
            for other in tuple(self._requests):
                if other.is_closed:
                    del self._requests[other]
            requests = self._requests[client] = AsyncRequests(client, self._loop, self.calls)
        return requests


#: Each is used by its loop alone.
_loops: dict[asyncio.AbstractEventLoop, _OneLoop] = {}


def _this_loop() -> _OneLoop:
    running = asyncio.get_running_loop()
    known = _loops.get(running)
    if known is None:
        for loop in tuple(_loops):  # a copy: other loops have threads of their own
            if loop.is_closed():
                _loops.pop(loop, None)
        known = _loops[running] = _OneLoop()
    return known


def requests_by(client: RequestClient) -> AsyncRequests:
    """Return the requests of the running loop by a client.

    Args:
        client: the client.

    Raises:
        RuntimeError: no loop is running.
    """
    return _this_loop().requests_by(client)


async def in_thread(function: Callable[[], object], *, timeout: float, what: str) -> None:
    """Call what may take its time on a thread of our own.

    Args:
        function: what to call.
        timeout: how long to wait, in seconds.
        what: what it does, for the message of an error.

    Raises:
        WaitTimeoutError: it did not end in time.
        Exception: what the function raised.
    """
    await _this_loop().calls.run(function, timeout=timeout, what=what)
