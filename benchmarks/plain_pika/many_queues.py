"""One channel of a `BlockingConnection` that consumes many queues."""

from __future__ import annotations

import time
from typing import Any

import pika

from benchmarks.actor import Actor, Load, Sample, resident_mib
from benchmarks.site import Site


class ManyQueues(Actor):
    """Declare and consume many queues, and close.

    Args:
        site: where the broker is.
        queue: what the names of the queues begin with.
        queues: how many; None for those of the round.
    """

    def __init__(self, site: Site, queue: str, *, queues: int | None = None) -> None:
        super().__init__(site, queue)
        self._queues = queues

    def round(self, load: Load) -> Sample:
        """Start, measure the memory, close."""
        count = self._queues or load.queues
        began = time.perf_counter()
        connection = pika.BlockingConnection(self.site.parameters())
        channel = connection.channel()
        channel.basic_qos(prefetch_count=50)
        for number in range(count):
            name = f"{self.queue}-{number}"
            channel.queue_declare(name)
            channel.basic_consume(name, _acknowledge)
        started = time.perf_counter() - began
        resident = resident_mib()
        began = time.perf_counter()
        connection.close()
        stopped = time.perf_counter() - began
        return {
            "operations": count,
            "seconds": started + stopped,
            "start": started,
            "stop": stopped,
            "resident": resident,
        }


def _acknowledge(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    channel.basic_ack(method.delivery_tag)
