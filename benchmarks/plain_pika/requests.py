"""Requests over direct reply-to, on both sides with one `BlockingConnection` in one thread."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

import pika

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.site import Site

_DIRECT = "amq.rabbitmq.reply-to"
_BODY = b"x" * PAYLOAD_BYTES


class Service(Actor):
    """Answer each request with its own body, and acknowledge it.

    Args:
        site: where the broker is.
        queue: where requests come.
        flow: another queue, whose messages are only acknowledged and counted.
    """

    def __init__(self, site: Site, queue: str, *, flow: str | None = None) -> None:
        super().__init__(site, queue)
        self._flow = flow
        self._handled = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self._ready.wait(30)

    def count(self) -> int:
        """Say how many messages of the other queue came."""
        return self._handled

    def close(self) -> None:
        """End the thread that serves."""
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(10)

    def _serve(self) -> None:
        self._connection = pika.BlockingConnection(self.site.parameters())
        self._channel = channel = self._connection.channel()
        channel.basic_qos(prefetch_count=50)
        channel.queue_declare(self.queue)
        channel.basic_consume(self.queue, self._answer)
        if self._flow is not None:
            channel.queue_declare(self._flow, arguments={"x-max-length": 100_000})
            channel.basic_consume(self._flow, self._take)
        self._ready.set()
        channel.start_consuming()
        self._connection.close()

    @staticmethod
    def _answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            "",
            properties.reply_to,
            body,
            pika.BasicProperties(correlation_id=properties.correlation_id),
        )
        channel.basic_ack(method.delivery_tag)

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._handled += 1
        channel.basic_ack(method.delivery_tag)


class Asker(Actor):
    """Ask, with so many requests under way at once.

    Args:
        site: where the broker is.
        queue: where the service gets its requests.
        in_flight: how many requests are under way. With one the rate is that of the median request.
    """

    def __init__(self, site: Site, queue: str, *, in_flight: int = 1) -> None:
        super().__init__(site, queue)
        self._in_flight = in_flight
        self._connection = pika.BlockingConnection(site.parameters())
        self._channel = self._connection.channel()
        self._properties = pika.BasicProperties(reply_to=_DIRECT, correlation_id="1")
        self._answers = 0
        self._channel.basic_consume(_DIRECT, self._take, auto_ack=True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def round(self, load: Load) -> Sample:
        """Ask until the time is over."""
        return self._one_by_one(load) if self._in_flight == 1 else self._pipelined(load)

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._answers += 1

    def _one_by_one(self, load: Load) -> Sample:
        publish, wait = self._channel.basic_publish, self._connection.process_data_events
        taken: list[float] = []
        stopwatch = Stopwatch()
        now = time.perf_counter()
        until = now + load.seconds
        while now < until:
            began, self._answers = now, 0
            publish("", self.queue, _BODY, self._properties)
            while not self._answers:
                wait(1)
            now = time.perf_counter()
            taken.append(now - began)
        return stopwatch.sample(len(taken)) | of_times(taken)

    def _pipelined(self, load: Load) -> Sample:
        publish, wait = self._channel.basic_publish, self._connection.process_data_events
        self._answers = sent = 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            while sent - self._answers < self._in_flight:
                publish("", self.queue, _BODY, self._properties)
                sent += 1
            wait(1)
        sample = stopwatch.sample(self._answers)
        while self._answers < sent:
            wait(1)
        return sample


def of_times(taken: list[float]) -> Sample:
    """Describe how long single operations took.

    Args:
        taken: seconds, one an operation.

    Returns:
        Median and 99th percentile in ms, and as ``rate`` how many would go one after the other if
        each took the median.
    """
    median = statistics.median(taken)
    rank = min(len(taken) - 1, int(len(taken) * 0.99))
    return {"rate": 1 / median, "median": median * 1e3, "p99": sorted(taken)[rank] * 1e3}
