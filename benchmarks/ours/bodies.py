"""Bodies of some size: sent with `send_message`, and consumed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pika

from benchmarks.actor import Actor, Load, Sample, Stopwatch, of_bodies
from benchmarks.ours.connector import make_connector
from benchmarks.plain_pika.sending import make_sink
from benchmarks.site import Site
from neon_mq_connector.utils.network_utils import dict_to_b64


class Sender(Actor):
    """Send bodies to a queue that drops its oldest messages.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        size: of a body as it goes over the wire, in bytes.
    """

    def __init__(self, site: Site, queue: str, *, size: int) -> None:
        super().__init__(site, queue)
        self._size = size

    def round(self, load: Load) -> Sample:
        """Send until the time is over, two at least."""
        connection = pika.BlockingConnection(self.site.parameters())
        make_sink(connection.channel(), self.queue, durable=False, length=2)
        connection.close()
        connector = make_connector(self.site)
        text, count = _text_for(self._size), 0
        connector.send_message({"text": "first"}, queue=self.queue)  # opens the connection
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while count < 2 or time.perf_counter() < until:
            count += 1
            connector.send_message({"text": text}, queue=self.queue, expiration=60_000)
        sample = stopwatch.sample(count)
        connector.stop()
        return of_bodies(sample, self._size)


class RawSender(Actor):
    """Send bodies as they are, on the channel of a consumer, each confirmed.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        size: of a body, in bytes.
    """

    def __init__(self, site: Site, queue: str, *, size: int) -> None:
        super().__init__(site, queue)
        self._size = size

    def round(self, load: Load) -> Sample:
        """Send until the time is over, two at least."""
        connection = pika.BlockingConnection(self.site.parameters())
        make_sink(connection.channel(), self.queue, durable=False, length=2)
        connection.close()
        connector = make_connector(self.site)
        connector.register_consumer("idle", self.site.vhost, f"{self.queue}-idle", _ignore)
        connector.run()
        channel = connector.consumers["idle"].channel
        channel.confirm_delivery()
        properties = pika.BasicProperties(expiration="60000")
        body, count = b"x" * self._size, 0
        channel.basic_publish("", self.queue, b"first", properties)  # opens the connection
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while count < 2 or time.perf_counter() < until:
            count += 1
            channel.basic_publish("", self.queue, body, properties)
        sample = stopwatch.sample(count)
        connector.stop()
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
        self._left = self._wanted = load.bodies(self._size)
        self._stopwatch: Stopwatch | None = None
        self._sample: Sample = {}
        self._done = threading.Event()
        connector = make_connector(self.site)
        connector.register_consumer(
            "consumer", self.site.vhost, self.queue, self._take, auto_ack=False
        )
        connector.run()
        try:
            assert self._done.wait(120), f"{self._left} messages did not come"
        finally:
            connector.stop()
        return of_bodies(self._sample, self._size)

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        assert len(body) == self._size
        channel.basic_ack(delivery_tag=method.delivery_tag)
        self._left -= 1
        if not self._left:
            self._sample = self._stopwatch.sample(self._wanted - 1)
            self._done.set()


def _ignore(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    pass


def _text_for(size: int) -> str:
    """Make a text that gives a body of about this size: base64 makes four bytes of three."""
    around = len(dict_to_b64({"text": "", "message_id": "x" * 32}))
    return "x" * max(1, (size - around) * 3 // 4)
