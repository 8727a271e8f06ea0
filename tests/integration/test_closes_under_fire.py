"""Channels end while many threads use them: the connection stays, every message is accounted for.

A broker closes the whole connection (504) on which a frame follows the end of its channel.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQError, PublishError, UnroutableError
from neon_mq_connector.link import ChannelEvents, Link, LinkChannel, LinkState
from neon_mq_connector.publishing.message import Message
from tests.support.polling import eventually
from tests.support.publishing import submit

ROUNDS = 15
THREADS = 6
IN_FLIGHT = 300
QUEUE = "under_fire"
NOWHERE = "no_such_exchange"
PROPERTIES = BasicProperties(delivery_mode=1)
UNKNOWN_TAG = 1_000_000


@pytest.fixture
def queue(channel: BlockingChannel) -> Iterator[str]:
    channel.queue_declare(QUEUE, durable=True)
    yield QUEUE
    channel.queue_delete(QUEUE)


@pytest.fixture
def link(connection_params: pika.ConnectionParameters, queue: str) -> Iterator[Link]:
    link = Link("mq-under-fire", [connection_params])
    yield link
    assert link.close(5.0)


class Shot:
    """One channel, at which threads fire until it has ended."""

    def __init__(self, link: Link) -> None:
        self.confirmed = 0
        self.sent = [0] * THREADS
        self.ended = threading.Event()
        self.channel = link.open_channel(
            ChannelEvents(confirms=self._count, shut=lambda _error: self.ended.set()), timeout=30.0
        )
        self.channel.confirm(timeout=30.0)

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


def ack_what_is_unknown(channel: LinkChannel) -> None:
    channel.ack(UNKNOWN_TAG)


def publish_to_nowhere(channel: LinkChannel) -> None:
    channel.send(channel.encode(NOWHERE, "", b"", PROPERTIES))


def close(channel: LinkChannel) -> None:
    channel.close(timeout=30.0)


def close_soon(channel: LinkChannel) -> None:
    channel.close_soon()


@pytest.mark.parametrize("end", [ack_what_is_unknown, publish_to_nowhere, close, close_soon])
def test_a_channel_that_ends_while_threads_use_it_takes_nothing_with_it(
    end: Callable[[LinkChannel], None], link: Link, channel: BlockingChannel, queue: str
) -> None:
    confirmed: Counter[int] = Counter()
    sent: Counter[int] = Counter()
    for number in range(ROUNDS):
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
            thread.join(30.0)
            assert not thread.is_alive()
        assert shot.ended.wait(30.0)
        assert link.state is LinkState.OPEN
        assert link.generation == 1, link.last_error
        confirmed[number], sent[number] = shot.confirmed, sum(shot.sent)
    # what was not confirmed when its channel ended may be there or not
    arrived = channel.queue_purge(queue).method.message_count
    assert sum(confirmed.values()) <= arrived <= sum(sent.values())


def test_every_message_of_a_publisher_is_confirmed_or_raises_while_its_channel_is_closed(
    connection_params: pika.ConnectionParameters, channel: BlockingChannel, queue: str
) -> None:
    connections = Connections([connection_params])
    publisher = connections.publisher
    over = threading.Event()
    outcomes: dict[str, BaseException | None] = {}
    faults: list[BaseException] = []

    def note(name: str, future: Future[None]) -> None:
        outcomes[name] = future.exception(15.0)

    def fire(number: int) -> None:
        turn = 0
        try:
            while not over.is_set():
                turn += 1
                name = f"{number}-{turn}"
                message = Message("", queue, name.encode(), PROPERTIES, mandatory=True)
                try:
                    if turn % 2:
                        publisher.publish(message, timeout=30.0)
                        outcomes[name] = None
                    else:
                        note(name, submit(publisher, message, timeout=30.0))
                except PublishError as error:
                    outcomes[name] = error
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=fire, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            publisher._exchanges.add(NOWHERE)  # it was deleted since
            before = len(outcomes)
            with pytest.raises((UnroutableError, PublishError)):
                publisher.publish(
                    Message(NOWHERE, "", b"", PROPERTIES, mandatory=True), timeout=30.0
                )
            eventually(lambda seen=before: len(outcomes) > seen + 10, interval=0.001)  # type: ignore[misc]
    finally:
        over.set()
        for thread in threads:
            thread.join(30.0)
        links = connections.links()
        generations = [each.generation for each in links]
        assert connections.close(10.0)
    assert faults == []
    assert not any(thread.is_alive() for thread in threads)
    assert generations == [1], [each.last_error for each in links]
    assert publisher.unconfirmed == 0
    arrived: Counter[str] = Counter()
    for _method, _properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
        if body is None:
            break
        arrived[body.decode()] += 1
    channel.cancel()
    for name, error in outcomes.items():
        if error is None:
            assert arrived[name] >= 1, name
        elif not getattr(error, "may_have_arrived", True):
            assert not arrived[name], (name, error)
    assert set(arrived) <= set(outcomes)
