"""Sending with a `BlockingChannel` from one thread, with and without confirms."""

from __future__ import annotations

import time

import pika

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.site import Site


class Sender(Actor):
    """Send until the time is over, to a queue that drops its oldest messages.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        confirm: whether to wait for each to be confirmed.
        durable: whether the queue is durable.
        persistent: whether the messages are; the library's always are.
    """

    def __init__(
        self,
        site: Site,
        queue: str,
        *,
        confirm: bool,
        durable: bool = False,
        persistent: bool = False,
    ) -> None:
        super().__init__(site, queue)
        self._mode = 2 if persistent else None
        self._connection = pika.BlockingConnection(site.parameters())
        self._channel = self._connection.channel()
        make_sink(self._channel, queue, durable=durable)
        if confirm:
            self._channel.confirm_delivery()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def round(self, load: Load) -> Sample:
        """Send."""
        publish, queue, body = self._channel.basic_publish, self.queue, b"x" * PAYLOAD_BYTES
        mode, sent = self._mode, 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            publish("", queue, body, pika.BasicProperties(expiration="1000", delivery_mode=mode))
            sent += 1
        return stopwatch.sample(sent)


def make_sink(
    channel: pika.adapters.blocking_connection.BlockingChannel,
    queue: str,
    *,
    durable: bool,
    length: int = 1_000,
) -> None:
    """Declare a queue that never fills.

    Args:
        channel: to declare it on.
        queue: its name.
        durable: whether it is durable: persistent messages are then confirmed once on the disk.
        length: how many messages it keeps.
    """
    channel.queue_declare(queue, durable=durable, arguments={"x-max-length": length})
