"""FastStream over aio-pika: requests, confirmed sending, consuming."""

from __future__ import annotations

import asyncio
import time

from benchmarks.actor import PAYLOAD_BYTES, Load, Sample, Stopwatch
from benchmarks.others.asynchronous import AsyncActor, need, url_of
from benchmarks.plain_pika.requests import of_times

_BODY = b"x" * PAYLOAD_BYTES


class _FastStream(AsyncActor):
    async def _open(self) -> None:
        self._library = need("faststream.rabbit")
        self._broker = self._library.RabbitBroker(
            url_of(self.site),
            logger=None,
            default_channel=self._library.Channel(prefetch_count=50),
        )
        self._subscribe()
        await self._broker.start()

    def _subscribe(self) -> None:
        """Name the queues and what is done with their messages."""

    async def _close(self) -> None:
        await self._broker.stop()


class Service(_FastStream):
    """Answer each request with its own body."""

    def _subscribe(self) -> None:
        async def answer(body: bytes) -> bytes:
            return body

        self._broker.subscriber(self._library.RabbitQueue(self.queue, durable=False))(answer)


class Asker(_FastStream):
    """Ask, one request at a time."""

    async def _round(self, load: Load) -> Sample:
        taken: list[float] = []
        stopwatch = Stopwatch()
        now = time.perf_counter()
        until = now + load.seconds
        while now < until:
            began = now
            await self._broker.request(_BODY, self.queue, timeout=10)
            now = time.perf_counter()
            taken.append(now - began)
        return stopwatch.sample(len(taken)) | of_times(taken)


class Sender(_FastStream):
    """Send, each message confirmed."""

    async def _open(self) -> None:
        await super()._open()
        await self._broker.declare_queue(
            self._library.RabbitQueue(self.queue, durable=False, arguments={"x-max-length": 1_000})
        )

    async def _round(self, load: Load) -> Sample:
        publish, sent = self._broker.publish, 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            await publish(_BODY, self.queue, expiration=1)
            sent += 1
        return stopwatch.sample(sent)


class Consumer(_FastStream):
    """Take what is in a queue; each message is acknowledged when its callback returns."""

    async def _open(self) -> None:
        self._library = need("faststream.rabbit")

    async def _close(self) -> None:
        pass

    async def _round(self, load: Load) -> Sample:
        self._left = self._wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        self._done: asyncio.Future[Sample] = self._loop.create_future()
        await super()._open()
        sample = await self._done
        await self._broker.stop()
        return sample

    def _subscribe(self) -> None:
        async def take(body: bytes) -> None:
            if self._stopwatch is None:
                self._stopwatch = Stopwatch()
            self._left -= 1
            if not self._left:
                self._done.set_result(self._stopwatch.sample(self._wanted))

        self._broker.subscriber(self._library.RabbitQueue(self.queue, durable=False))(take)
