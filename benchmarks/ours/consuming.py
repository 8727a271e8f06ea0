"""Consuming with `register_consumer`, each message acknowledged in its callback."""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch, resident_mib
from benchmarks.others.asynchronous import need
from benchmarks.ours.connector import make_connector
from benchmarks.site import Site


class Consumer(Actor):
    """Take what is in a queue and acknowledge each message.

    Args:
        site: where the broker is.
        queue: where the messages are; it is there and filled.
        prefetch: how many the broker sends ahead; None for the default.
        select: whether `SelectConsumerThread` is to run the callback.
    """

    def __init__(
        self, site: Site, queue: str, *, prefetch: int | None = None, select: bool = False
    ) -> None:
        super().__init__(site, queue)
        self._prefetch = prefetch
        self._select = select

    def round(self, load: Load) -> Sample:
        """Consume; the time runs from the first callback to the last."""
        self._left = self._wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        self._sample: Sample = {}
        self._done = threading.Event()
        connector = make_connector(self.site)
        connector.register_consumer(
            "consumer",
            self.site.vhost,
            self.queue,
            self._callback(),
            auto_ack=False,
            prefetch_count=self._prefetch,
            async_consumer=self._select or None,
        )
        connector.run()
        try:
            assert self._done.wait(120), f"{self._left} messages did not come"
            return self._sample | {"resident": resident_mib()}
        finally:
            connector.stop()

    def _callback(self) -> Any:
        return self._take

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._begin()
        channel.basic_ack(delivery_tag=method.delivery_tag)
        self._count()

    def _begin(self) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            assert self._stopwatch is not None
            self._sample = self._stopwatch.sample(self._wanted)
            self._done.set()


class CoroutineConsumer(Consumer):
    """Do the same with a coroutine function that takes the four arguments."""

    def _callback(self) -> Any:
        return self._take_awaiting

    async def _take_awaiting(self, channel: Any, method: Any, _properties: Any, _b: bytes) -> None:
        self._begin()
        await channel.basic_ack(delivery_tag=method.delivery_tag)
        self._count()


class MessageConsumer(Consumer):
    """Do the same with a coroutine function that takes aio-pika's message."""

    def _callback(self) -> Any:
        need("aio_pika")
        return self._take_message

    async def _take_message(self, message: Any) -> None:
        self._begin()
        await message.ack()
        self._count()
