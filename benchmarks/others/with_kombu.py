"""kombu over py-amqp: confirmed sending, consuming."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.others.asynchronous import need, url_of
from benchmarks.site import Site

_BODY = b"x" * PAYLOAD_BYTES


class _Kombu(Actor):
    def __init__(self, site: Site, queue: str) -> None:
        super().__init__(site, queue)
        self._library = need("kombu")
        self._connection = self._library.Connection(
            url_of(site), transport_options={"confirm_publish": True}
        )
        self._connection.connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.release()


class Sender(_Kombu):
    """Send, each message confirmed."""

    def __init__(self, site: Site, queue: str) -> None:
        super().__init__(site, queue)
        channel = self._connection.default_channel
        self._library.Queue(queue, durable=False, max_length=1_000)(channel).declare()
        self._producer = self._connection.Producer()

    def round(self, load: Load) -> Sample:
        """Send until the time is over."""
        publish, sent = self._producer.publish, 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            publish(_BODY, routing_key=self.queue, expiration=1, delivery_mode=1)
            sent += 1
        return stopwatch.sample(sent)


class Consumer(_Kombu):
    """Take what is in a queue and acknowledge each message."""

    def round(self, load: Load) -> Sample:
        """Consume; the time runs from the first callback to the last."""
        self._left = self._wanted = load.bodies(PAYLOAD_BYTES)
        self._stopwatch: Stopwatch | None = None
        self._sample: Sample = {}
        queue = self._library.Queue(self.queue, no_declare=True)
        with self._connection.Consumer(
            queue, on_message=self._take, accept=None, prefetch_count=50
        ):
            while self._left:
                self._connection.drain_events(timeout=30)
        return self._sample

    def _take(self, message: Any) -> None:
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        message.ack()
        self._left -= 1
        if not self._left:
            self._sample = self._stopwatch.sample(self._wanted)
