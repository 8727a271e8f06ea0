"""Consuming with a `BlockingConnection`, each message acknowledged in its callback."""

from __future__ import annotations

from typing import Any

import pika

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.site import Site


class Consumer(Actor):
    """Take what is in a queue and acknowledge each message.

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
