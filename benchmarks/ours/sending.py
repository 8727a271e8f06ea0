"""Sending with `MQConnector`: each message waited for, or many on their way at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pika

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Skipped, Stopwatch
from benchmarks.ours.connector import make_connector
from benchmarks.plain_pika.sending import make_sink
from benchmarks.site import Site

_TEXT = "x" * PAYLOAD_BYTES
#: How many messages are on their way where their number is ours to choose.
_WINDOW = 1_000


class _SenderOfAKind(Actor):
    def __init__(self, site: Site, queue: str, *, durable: bool) -> None:
        super().__init__(site, queue)
        connection = pika.BlockingConnection(site.parameters())
        make_sink(connection.channel(), queue, durable=durable)
        connection.close()
        self._connector = make_connector(site)

    def close(self) -> None:
        """Stop the connector."""
        self._connector.stop()


class Sender(_SenderOfAKind):
    """Send with `send_message` until the time is over.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        threads: how many send.
        durable: whether the queue is durable.
    """

    def __init__(self, site: Site, queue: str, *, threads: int = 1, durable: bool = False) -> None:
        super().__init__(site, queue, durable=durable)
        self._threads = threads

    def round(self, load: Load) -> Sample:
        """Send."""
        sent = [0] * self._threads
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        threads = [
            threading.Thread(target=self._send, args=(sent, number, until))
            for number in range(1, self._threads)
        ]
        for thread in threads:
            thread.start()
        self._send(sent, 0, until)
        for thread in threads:
            thread.join()
        return stopwatch.sample(sum(sent))

    def _send(self, sent: list[int], number: int, until: float) -> None:
        send, queue, count = self._connector.send_message, self.queue, 0
        while time.perf_counter() < until:
            send({"text": _TEXT}, queue=queue)
            count += 1
        sent[number] = count


class Pipeliner(_SenderOfAKind):
    """Send confirmed messages without waiting for one before the next is sent.

    Args:
        site: where the broker is.
        queue: where to; it is made.
        durable: whether the queue is durable.
    """

    def __init__(self, site: Site, queue: str, *, durable: bool) -> None:
        super().__init__(site, queue, durable=durable)
        connector: Any = self._connector
        self._publish_many = getattr(connector, "publish_many", None)
        self._submit = getattr(connector, "submit_message", None)
        if self._publish_many is None and self._submit is None:
            raise Skipped("MQConnector has neither publish_many nor submit_message")

    def round(self, load: Load) -> Sample:
        """Send until the time is over; it ends with the last confirm."""
        self._count = 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        if self._publish_many is not None:
            self._publish_many(self._messages(until), queue=self.queue)
        else:
            self._send_by_futures(until)
        return stopwatch.sample(self._count)

    def _messages(self, until: float) -> Iterator[dict[str, Any]]:
        while time.perf_counter() < until:
            self._count += 1
            yield {"text": _TEXT}

    def _send_by_futures(self, until: float) -> None:
        assert self._submit is not None
        under_way: deque[Any] = deque()
        for message in self._messages(until):
            under_way.append(self._submit(message, queue=self.queue))
            if len(under_way) >= _WINDOW:
                under_way.popleft().result(10)
        for each in under_way:
            each.result(10)
