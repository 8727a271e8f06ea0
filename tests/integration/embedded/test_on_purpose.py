"""Time that a test moves, faults that it asks for, and what it can look up afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker

from neon_mq_connector.testing import EmbeddedBroker
from tests.integration.embedded.conftest import pump, until
from tests.support.polling import eventually

OpenChannel = Callable[..., BlockingChannel]


def _count(channel: BlockingChannel, queue: str) -> int:
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def test_messages_expire_when_the_clock_is_moved(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    messages.queue_declare(
        "timed",
        arguments={
            "x-message-ttl": 60_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "work",
        },
    )
    messages.basic_publish("", "timed", b"soon", pika.BasicProperties(expiration="1000"))
    messages.basic_publish("", "timed", b"later")
    assert _count(messages, "timed") == 2
    embedded.advance(2)
    assert (_count(messages, "timed"), _count(messages, "work")) == (1, 1)
    embedded.advance(60)
    assert (_count(messages, "timed"), _count(messages, "work")) == (0, 2)
    _, properties, body = messages.basic_get("work", auto_ack=True)
    assert properties is not None
    assert properties.headers is not None
    death = properties.headers["x-death"][0]
    assert body == b"soon"
    assert (death["reason"], death["queue"], death["count"]) == ("expired", "timed", 1)
    assert death["original-expiration"] == "1000"
    assert properties.expiration is None


def test_time_passes_by_itself(embedded: EmbeddedBroker, messages: BlockingChannel) -> None:
    messages.basic_publish("", "work", b"soon", pika.BasicProperties(expiration="50"))
    eventually(lambda: [each.kind for each in embedded.history("work")] == ["published", "expired"])


def test_a_delay_is_followed_by_the_next_in_one_move_of_the_clock(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    for queue, target in (("first", "second"), ("second", "work")):
        letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}
        messages.queue_declare(queue, arguments={"x-message-ttl": 30_000, **letters})
    messages.basic_publish("", "first", b"x")
    _count(messages, "first")
    embedded.advance(61)
    assert _count(messages, "work") == 1


def test_unused_queues_go_when_the_clock_is_moved(
    embedded: EmbeddedBroker, open_channel: OpenChannel
) -> None:
    channel = open_channel()
    channel.queue_declare("idle", arguments={"x-expires": 60_000})
    channel.queue_declare("busy", arguments={"x-expires": 60_000})
    channel.basic_consume("busy", lambda *_: None)
    embedded.advance(59)
    channel.queue_declare("idle", passive=True)  # a use
    embedded.advance(59)
    assert len(embedded.list_queues("/")) == 2
    embedded.advance(2)
    assert [queue["name"] for queue in embedded.list_queues("/")] == ["busy"]


def test_a_consumer_that_holds_a_message_for_too_long_loses_its_channel(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    messages.basic_publish("", "work", b"held")
    messages.basic_get("work")
    embedded.advance(31 * 60)
    with pytest.raises(ChannelClosedByBroker, match="acknowledgement on channel 1 timed out"):
        _count(messages, "work")


def test_connections_are_closed_or_dropped(
    embedded: EmbeddedBroker, open_channel: OpenChannel
) -> None:
    closed, dropped = open_channel(), open_channel()
    embedded.close_connections()
    with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED"):
        pump(closed)
    with pytest.raises(ConnectionClosedByBroker):
        pump(dropped)
    dropped = open_channel()
    embedded.drop_connections()
    with pytest.raises(AMQPConnectionError) as caught:
        pump(dropped)
    assert not isinstance(caught.value, ConnectionClosedByBroker)
    eventually(lambda: embedded.list_connections() == [])


def test_new_connections_are_refused_while_old_ones_go_on(
    embedded: EmbeddedBroker, messages: BlockingChannel, open_channel: OpenChannel
) -> None:
    embedded.refuse_connections()
    with pytest.raises(AMQPConnectionError):
        open_channel()
    assert _count(messages, "work") == 0
    embedded.accept_connections()
    assert _count(open_channel(), "work") == 0


def test_lost_confirms_are_lost_and_the_messages_are_not(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    confirmed: list[int] = []
    connection = pika.SelectConnection(pika.URLParameters(embedded.url()))

    def publish(channel: Any) -> None:
        channel.confirm_delivery(lambda frame: confirmed.append(frame.method.delivery_tag))
        for number in range(4):
            channel.basic_publish("", "work", str(number).encode())

    connection.add_on_open_callback(lambda _: connection.channel(on_open_callback=publish))
    embedded.lose_confirms(2)
    deadline = time.monotonic() + 120
    while confirmed != [3, 4] and time.monotonic() < deadline:
        connection.ioloop.call_later(0.01, connection.ioloop.stop)
        connection.ioloop.start()
    assert confirmed == [3, 4]
    assert _count(messages, "work") == 4
    connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
    connection.close()
    connection.ioloop.start()


def test_a_message_is_delivered_twice(embedded: EmbeddedBroker, messages: BlockingChannel) -> None:
    got: list[tuple[bytes, bool]] = []

    def take(channel: Any, method: Any, _: Any, body: bytes) -> None:
        got.append((body, method.redelivered))
        channel.basic_ack(method.delivery_tag)

    messages.basic_consume("work", take)
    embedded.deliver_twice()
    messages.basic_publish("", "work", b"one")
    messages.basic_publish("", "work", b"two")
    until(messages, lambda: len(got) >= 3)
    assert sorted(got) == [(b"one", False), (b"one", True), (b"two", False)]


def test_everything_is_sent_later(embedded: EmbeddedBroker, messages: BlockingChannel) -> None:
    embedded.delay(0.3)
    began = time.monotonic()
    assert _count(messages, "work") == 0
    assert time.monotonic() - began >= 0.3
    embedded.delay(0)
    assert _count(messages, "work") == 0


def test_the_history_tells_what_became_of_each_message(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    messages.basic_publish("", "work", b"one", pika.BasicProperties(message_id="1"))
    messages.basic_publish("", "work", b"two")
    for settle in ("basic_nack", "basic_ack", "basic_ack"):
        method, _, _ = messages.basic_get("work")
        assert method is not None
        getattr(messages, settle)(method.delivery_tag)
    _count(messages, "work")
    history = embedded.history("work")
    assert [(each.kind, each.body) for each in history if each.body == b"one"] == [
        ("published", b"one"),
        ("delivered", b"one"),
        ("requeued", b"one"),
        ("delivered", b"one"),
        ("acked", b"one"),
    ]
    assert {each.message_id for each in history} == {"1", None}
    assert [each.redelivered for each in history if each.kind == "delivered"] == [
        False,
        True,
        False,
    ]
    embedded.restart()
    assert embedded.history("work") == history
    assert embedded.history("none") == []


def test_what_a_test_asks_wrongly_is_refused(embedded: EmbeddedBroker) -> None:
    with pytest.raises(ValueError, match="use one of memory, disk"):
        embedded.block("paper")
    with pytest.raises(ValueError, match="forward, and a year at most"):
        embedded.advance(-1)
    with pytest.raises(ValueError, match="a year at most"):
        embedded.advance(1e12)
