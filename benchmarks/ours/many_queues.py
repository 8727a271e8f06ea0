"""One connector with many queues."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.actor import Actor, Load, Sample, resident_mib
from benchmarks.ours.connector import make_connector
from benchmarks.site import Site

_START_TIMEOUT = 120.0


class ManyQueues(Actor):
    """Start a connector with a consumer for each of many queues, and stop it.

    Args:
        site: where the broker is.
        queue: what the names of the queues begin with.
        queues: how many; None for those of the round.
    """

    def __init__(self, site: Site, queue: str, *, queues: int | None = None) -> None:
        super().__init__(site, queue)
        self._queues = queues

    def round(self, load: Load) -> Sample:
        """Start, measure the memory, stop."""
        count = self._queues or load.queues
        connector = make_connector(self.site)
        began = time.perf_counter()
        for number in range(count):
            name = f"{self.queue}-{number}"
            connector.register_consumer(name, self.site.vhost, name, _acknowledge, auto_ack=False)
        connector.run()
        while not connector.check_health():
            if time.perf_counter() - began > _START_TIMEOUT:
                raise TimeoutError("; ".join(connector.health().reasons[:3]))
            time.sleep(0.02)
        started = time.perf_counter() - began
        resident = resident_mib()
        began = time.perf_counter()
        connector.stop()
        stopped = time.perf_counter() - began
        return {
            "operations": count,
            "seconds": started + stopped,
            "start": started,
            "stop": stopped,
            "resident": resident,
        }


def _acknowledge(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    channel.basic_ack(delivery_tag=method.delivery_tag)
