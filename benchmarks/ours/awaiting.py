"""Requests between coroutines: a service and who asks it, each in an event loop."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.actor import PAYLOAD_BYTES, Load, Sample, Stopwatch
from benchmarks.others.asynchronous import AsyncActor, ask_from_many
from benchmarks.plain_pika.requests import of_times
from benchmarks.site import Site
from neon_mq_connector import AsyncMQConnector, create_mq_callback

_NAME = "bench_service"
_TEXT = "x" * PAYLOAD_BYTES


class _Answering(AsyncMQConnector):
    @create_mq_callback()
    async def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": body["text"]}


class Service(AsyncActor):
    """Answer each request with its own text."""

    async def _open(self) -> None:
        self._connector = _Answering(self.site.config(_NAME), _NAME)
        self._connector.vhost = self.site.vhost
        self._connector.register_consumer(
            "requests", self.site.vhost, self.queue, self._connector.answer
        )
        await self._connector.run()

    async def _close(self) -> None:
        await self._connector.stop()


class Asker(AsyncActor):
    """Ask.

    Args:
        site: where the broker is.
        queue: where the service gets its requests.
        in_flight: how many requests are under way. With one the rate is that of the median request.
    """

    def __init__(self, site: Site, queue: str, *, in_flight: int = 1) -> None:
        self._in_flight = in_flight
        super().__init__(site, queue)

    async def _open(self) -> None:
        self._connector = AsyncMQConnector(self.site.config(_NAME), _NAME)
        self._connector.vhost = self.site.vhost
        await self._ask()

    async def _close(self) -> None:
        await self._connector.stop()

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
        answer = await self._connector.request({"text": _TEXT}, self.queue, timeout=20)
        assert answer["text"] == _TEXT
