"""aio-pika: requests over direct reply-to, confirmed sending, consuming."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.actor import PAYLOAD_BYTES, Load, Sample, Stopwatch
from benchmarks.others.asynchronous import AsyncActor, ask_from_many, need, url_of
from benchmarks.plain_pika.requests import of_times
from benchmarks.site import Site

_BODY = b"x" * PAYLOAD_BYTES
_TEXT = "x" * PAYLOAD_BYTES
_DIRECT = "amq.rabbitmq.reply-to"


class _AioPika(AsyncActor):
    async def _open(self) -> None:
        self._library = need("aio_pika")
        self._connection = await self._library.connect_robust(url_of(self.site))
        self._channel = await self._connection.channel()
        await self._channel.set_qos(prefetch_count=50)

    async def _close(self) -> None:
        await self._connection.close()


class Service(_AioPika):
    """Answer each request with its own body, and acknowledge it."""

    async def _open(self) -> None:
        await super()._open()
        queue = await self._channel.declare_queue(self.queue)
        await queue.consume(self._answer)

    async def _answer(self, message: Any) -> None:
        answer = self._library.Message(message.body, correlation_id=message.correlation_id)
        exchange = self._channel.default_exchange
        await exchange.publish(answer, routing_key=message.reply_to)
        await message.ack()


class Asker(_AioPika):
    """Ask, one request at a time."""

    async def _open(self) -> None:
        await super()._open()
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        # the service's process was made before this one
        await self._channel.declare_queue(self.queue)
        replies = await self._channel.get_queue(_DIRECT, ensure=False)
        await replies.consume(self._take, no_ack=True)

    async def _take(self, message: Any) -> None:
        self._answer.set_result(message.body)

    async def _round(self, load: Load) -> Sample:
        taken: list[float] = []
        exchange = self._channel.default_exchange
        stopwatch = Stopwatch()
        now = time.perf_counter()
        until = now + load.seconds
        while now < until:
            began = now
            self._answer = self._loop.create_future()
            request = self._library.Message(_BODY, reply_to=_DIRECT, correlation_id="1")
            await exchange.publish(request, routing_key=self.queue)
            await self._answer
            now = time.perf_counter()
            taken.append(now - began)
        return stopwatch.sample(len(taken)) | of_times(taken)


class RpcService(_AioPika):
    """Answer each call of `patterns.RPC` with its own text."""

    async def _open(self) -> None:
        await super()._open()
        patterns = need("aio_pika.patterns")
        self._rpc = await patterns.RPC.create(self._channel)
        await self._rpc.register(self.queue, _return)


async def _return(*, text: str) -> dict[str, str]:
    return {"text": text}


class RpcAsker(_AioPika):
    """Call by `patterns.RPC`.

    Args:
        site: where the broker is.
        queue: the name of what is called.
        in_flight: how many calls are under way. With one the rate is that of the median call.
    """

    def __init__(self, site: Site, queue: str, *, in_flight: int = 1) -> None:
        self._in_flight = in_flight
        super().__init__(site, queue)

    async def _open(self) -> None:
        await super()._open()
        patterns = need("aio_pika.patterns")
        self._rpc = await patterns.RPC.create(self._channel)
        await self._ask()

    async def _round(self, load: Load) -> Sample:
        if self._in_flight > 1:
            return await ask_from_many(self._ask, self._in_flight, load)
        taken: list[float] = []
        stopwatch = Stopwatch()
        now = time.perf_counter()
        until = now + load.seconds
        while now < until:
            began = now
            await self._ask()
            now = time.perf_counter()
            taken.append(now - began)
        return stopwatch.sample(len(taken)) | of_times(taken)

    async def _ask(self) -> None:
        answer = await self._rpc.call(self.queue, {"text": _TEXT})
        assert answer["text"] == _TEXT


class Sender(_AioPika):
    """Send, each message confirmed."""

    async def _open(self) -> None:
        await super()._open()
        await self._channel.declare_queue(self.queue, arguments={"x-max-length": 1_000})

    async def _round(self, load: Load) -> Sample:
        exchange, make = self._channel.default_exchange, self._library.Message
        sent = 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            await exchange.publish(make(_BODY, expiration=1), routing_key=self.queue)
            sent += 1
        return stopwatch.sample(sent)


class Consumer(_AioPika):
    """Take what is in a queue and acknowledge each message."""

    async def _round(self, load: Load) -> Sample:
        self._left = self._wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        self._done: asyncio.Future[Sample] = self._loop.create_future()
        queue = await self._channel.get_queue(self.queue, ensure=False)
        tag = await queue.consume(self._take)
        sample = await self._done
        await queue.cancel(tag)
        return sample

    async def _take(self, message: Any) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        await message.ack()
        self._left -= 1
        if not self._left:
            self._done.set_result(self._stopwatch.sample(self._wanted))
