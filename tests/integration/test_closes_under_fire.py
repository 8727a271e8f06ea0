"""Channels end while many threads use them: the connection stays, every message is accounted for.

A broker closes the whole connection (504) on which a frame follows the end of its channel.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector.errors import MQError
from neon_mq_connector.link import ChannelEvents, Link, LinkChannel, LinkState
from tests.support.polling import eventually

ROUNDS = 6
THREADS = 6
IN_FLIGHT = 300
QUEUE = "under_fire"
NOWHERE = "no_such_exchange"
PROPERTIES = BasicProperties(delivery_mode=1)


@pytest.fixture
def queue(channel: BlockingChannel) -> Iterator[str]:
    channel.queue_declare(QUEUE, durable=True)
    yield QUEUE
    channel.queue_delete(QUEUE)


@pytest.fixture
def link(connection_params: pika.ConnectionParameters, queue: str) -> Iterator[Link]:
    link = Link("mq-under-fire", [connection_params])
    yield link
    assert link.close(120)


class Shot:
    """One channel, at which threads fire until it has ended."""

    def __init__(self, link: Link) -> None:
        self.confirmed = 0
        self.sent = [0] * THREADS
        self.ended = threading.Event()
        self.channel = link.open_channel(
            ChannelEvents(confirms=self._count, shut=lambda _error: self.ended.set()), timeout=120
        )
        self.channel.confirm(timeout=120)

    def fire(self, queue: str, thread: int) -> None:
        try:
            while True:
                while sum(self.sent) - self.confirmed > IN_FLIGHT and self.channel.is_open:
                    self.ended.wait(0.001)
                self.channel.send(self.channel.encode("", queue, b"", PROPERTIES))
                self.sent[thread] += 1
                self.channel.ack(0, multiple=True)  # all that is unsettled: nothing
        except MQError:
            return

    def _count(self, tag: int, multiple: bool, nacked: bool) -> None:
        assert not nacked
        self.confirmed = max(self.confirmed, tag)


@pytest.mark.parametrize(
    "end",
    [
        lambda channel: channel.ack(1_000_000),  # a tag that is unknown
        lambda channel: channel.send(channel.encode(NOWHERE, "", b"", PROPERTIES)),
        lambda channel: channel.close(timeout=120),
        lambda channel: channel.close_soon(),
    ],
    ids=["ack", "publish", "close", "close soon"],
)
def test_a_channel_that_ends_while_threads_use_it_takes_nothing_with_it(
    end: Callable[[LinkChannel], None], link: Link, channel: BlockingChannel, queue: str
) -> None:
    confirmed = sent = 0
    for _ in range(ROUNDS):
        shot = Shot(link)
        threads = [
            threading.Thread(target=shot.fire, args=(queue, each)) for each in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda shot=shot: shot.confirmed > 5, interval=0.001, what="messages flow")  # type: ignore[misc]
        with contextlib.suppress(MQError):
            end(shot.channel)
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        assert shot.ended.wait(120)
        assert link.state is LinkState.OPEN
        assert link.generation == 1, link.last_error
        confirmed, sent = confirmed + shot.confirmed, sent + sum(shot.sent)
    # what was not confirmed when its channel ended may be there or not
    arrived = channel.queue_purge(queue).method.message_count
    assert confirmed <= arrived <= sent
