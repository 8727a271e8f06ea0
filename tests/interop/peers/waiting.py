"""Waits until the broker knows the consumers of a connector.

The published package says that a consumer consumes as soon as its channel is open, even when the
broker then refuses its queue; so the broker is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pika

_PATIENCE_SECONDS = 120.0


def count_consumers(connector: Any, queues: Iterable[str]) -> dict[str, int]:
    """Ask the broker how many consumers each of these queues has; none where there is no queue."""
    counts = dict.fromkeys(queues, 0)
    with connector.create_mq_connection(connector.vhost) as connection:
        for queue in counts:
            channel = connection.channel()
            try:
                found = channel.queue_declare(queue, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                continue
            counts[queue] = found.method.consumer_count
            channel.close()
    return counts


def wait_for_consumers(connector: Any, wanted: dict[str, int]) -> None:
    """Wait until each of these queues has as many consumers.

    Raises:
        AssertionError: it took too long.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        counts = count_consumers(connector, wanted)
        if all(counts[queue] >= count for queue, count in wanted.items()):
            return
        assert time.monotonic() < deadline, f"wanted consumers: {wanted}, there are: {counts}"
        time.sleep(0.02)
