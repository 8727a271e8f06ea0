"""Bodies of some size, with plain pika: sent with confirms, and consumed."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pika

from benchmarks.actor import Actor, Load, Sample, Stopwatch, of_bodies
from benchmarks.plain_pika.sending import make_sink
from benchmarks.site import Site


class Sender(Actor):
    """Send bodies to a queue that drops its oldest messages, each confirmed.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        size: of a body, in bytes.
        encode: whether to make each body of a dict, as the library has to.
    """

    def __init__(self, site: Site, queue: str, *, size: int, encode: bool = False) -> None:
        super().__init__(site, queue)
        self._size = size
        self._encode = encode

    def round(self, load: Load) -> Sample:
        """Send until the time is over, two at least."""
        connection = pika.BlockingConnection(self.site.parameters())
        channel = connection.channel()
        make_sink(channel, self.queue, durable=False, length=2)
        channel.confirm_delivery()
        body, text, count = b"x" * self._size, "x" * (self._size * 3 // 4), 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while count < 2 or time.perf_counter() < until:
            count += 1
            if self._encode:
                body = base64.b64encode(json.dumps(repr({"text": text})).encode())
            channel.basic_publish("", self.queue, body, pika.BasicProperties(expiration="60000"))
        sample = stopwatch.sample(count)
        connection.close()
        return of_bodies(sample, self._size)


class Consumer(Actor):
    """Take bodies and acknowledge each.

    Args:
        site: where the broker is.
        queue: where they are; it is there and filled.
        size: of a body, in bytes.
    """

    def __init__(self, site: Site, queue: str, *, size: int) -> None:
        super().__init__(site, queue)
        self._size = size

    def round(self, load: Load) -> Sample:
        """Consume; the time runs from the first callback to the last."""
        count = self._left = load.bodies(self._size)
        self._stopwatch: Stopwatch | None = None
        connection = pika.BlockingConnection(self.site.parameters())
        channel = connection.channel()
        channel.basic_qos(prefetch_count=50)
        channel.basic_consume(self.queue, self._take)
        channel.start_consuming()
        assert self._stopwatch is not None
        sample = self._stopwatch.sample(count - 1)
        connection.close()
        return of_bodies(sample, self._size)

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        assert len(body) == self._size
        channel.basic_ack(method.delivery_tag)
        self._left -= 1
        if not self._left:
            channel.stop_consuming()
