"""Consuming with plain pika, each message acknowledged in its callback."""

from __future__ import annotations

from typing import Any

import pika

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.site import Site


class Consumer(Actor):
    """Take what is in a queue and acknowledge each message, with a `BlockingConnection`.

    Args:
        site: where the broker is.
        queue: where the messages are; it is there and filled.
        prefetch: how many the broker sends ahead.
    """

    def __init__(self, site: Site, queue: str, *, prefetch: int = 50) -> None:
        super().__init__(site, queue)
        self._prefetch = prefetch

    def round(self, load: Load) -> Sample:
        """Consume; the time runs from the first callback to the last."""
        self._left = wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        connection = pika.BlockingConnection(self.site.parameters())
        channel = connection.channel()
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.basic_consume(self.queue, self._take)
        channel.start_consuming()
        assert self._stopwatch is not None
        sample = self._stopwatch.sample(wanted)
        connection.close()
        return sample

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        channel.basic_ack(method.delivery_tag)
        self._left -= 1
        if not self._left:
            channel.stop_consuming()


class SelectConsumer(Actor):
    """Do the same with a `SelectConnection`, prefetch 50."""

    def round(self, load: Load) -> Sample:
        """Consume; the time runs from the first callback to the last."""
        self._left = self._wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        self._sample: Sample = {}
        connection = pika.SelectConnection(
            self.site.parameters(),
            on_open_callback=self._open_channel,
            on_close_callback=lambda closed, _reason: closed.ioloop.stop(),
        )
        connection.ioloop.start()
        assert not self._left, f"{self._left} messages did not come"
        return self._sample

    def _open_channel(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._set_prefetch)

    def _set_prefetch(self, channel: Any) -> None:
        channel.basic_qos(
            prefetch_count=50,
            callback=lambda _: channel.basic_consume(self.queue, self._take),
        )

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        channel.basic_ack(method.delivery_tag)
        self._left -= 1
        if not self._left:
            self._sample = self._stopwatch.sample(self._wanted)
            channel.connection.close()
