"""The channel that callbacks get: what they do with it, as pika allows and as it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exchange_type import ExchangeType
from pika.spec import Basic, BasicProperties

from neon_mq_connector.consumers import BlockingConsumerThread
from neon_mq_connector.testing import PrivateBroker
from tests.integration.conftest import (
    DropConnections,
    MakeConnector,
    Queues,
    Seen,
    Serve,
    messages_in,
    put,
    run,
)
from tests.integration.stage import Stage
from tests.support.polling import eventually

Engine = dict[str, Any]


def publish_with(channel: Any, **properties: Any) -> None:
    channel.basic_publish("", "stage", b"", BasicProperties(**properties))


@pytest.fixture
def stage(
    channel: BlockingChannel, make_connector: MakeConnector, engine: Engine
) -> Iterator[Stage]:
    stage = Stage(channel, make_connector(), "function", auto_ack=False, **engine)
    yield stage
    # whatever it did, its consumer is still there
    assert stage.play(lambda *_: "alive") == "alive"
    assert stage.connector.check_health()
    assert stage.connector.consumers["stage"].consumer.recoveries == 0
    assert not stage.seen.errors


def test_a_callback_is_given_what_pika_gives(stage: Stage) -> None:
    sent = {
        "correlation_id": "c",
        "reply_to": "r",
        "headers": {"h": 1},
        "content_type": "t",
        "message_id": "m",
    }
    thread = stage.play(lambda *_: threading.current_thread(), b"go", BasicProperties(**sent))
    ((method, properties, body),) = stage.deliveries
    assert isinstance(method, Basic.Deliver)
    assert (method.routing_key, method.exchange, method.redelivered) == ("stage", "", False)
    assert method.delivery_tag > 0
    assert method.consumer_tag
    assert isinstance(properties, BasicProperties)
    assert {name: getattr(properties, name) for name in sent} == sent
    assert body == b"go"
    consumer = stage.connector.consumers["stage"]
    assert thread is consumer or not isinstance(consumer, BlockingConsumerThread)


# -- settling ----------------------------------------------------------------------------------


SETTLING: list[Callable[[Any, int], None]] = [
    lambda channel, tag: channel.basic_ack(tag, multiple=True),
    lambda channel, tag: channel.basic_ack(tag),
    lambda channel, tag: channel.basic_ack(delivery_tag=tag),
    lambda channel, tag: channel.basic_nack(tag, requeue=False),
    lambda channel, tag: channel.basic_nack(delivery_tag=tag, multiple=False, requeue=False),
    lambda channel, tag: channel.basic_reject(tag, requeue=False),
    lambda channel, tag: channel.basic_reject(tag, False),
]


def test_a_message_is_gone_when_it_is_settled_and_comes_again_when_it_is_given_back(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if body.isdigit():
            SETTLING[int(body)](channel, method.delivery_tag)
        elif method.redelivered:
            channel.basic_ack(method.delivery_tag)
        else:
            getattr(channel, body.decode())(method.delivery_tag)
        seen(channel, method, properties, body)

    given_back = [b"basic_nack", b"basic_reject"]
    put(channel, "q", *[b"%d" % number for number in range(len(SETTLING))], *given_back)
    connector = serve(callback, auto_ack=False)
    seen.wait_for(len(SETTLING) + 4)
    assert sorted(seen.redelivered) == given_back
    connector.stop()
    assert messages_in(channel, "q") == 0


def test_other_threads_may_acknowledge_through_the_connection(
    serve: Serve, channel: BlockingChannel
) -> None:
    done = threading.Event()

    def callback(channel: Any, method: Any, *_: Any) -> None:
        def later() -> None:
            channel.basic_ack(method.delivery_tag)
            done.set()

        call = channel.connection.add_callback_threadsafe
        threading.Thread(target=call, args=(later,), daemon=True).start()

    put(channel, "q", b"1")
    connector = serve(callback, auto_ack=False)
    assert done.wait(120)
    connector.stop()
    assert messages_in(channel, "q") == 0


def test_acknowledging_what_is_acknowledged_on_receipt_does_no_harm(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        seen(channel, method, properties, body)

    connector = serve(callback, seen.on_error, durable=True)
    put(channel, "q", b"1", b"2", b"3")
    seen.wait_for(3)
    put(channel, "q", b"4")  # the broker has answered to the acks by then
    seen.wait_for(4)
    assert connector.check_health()
    assert connector.consumers["c"].consumer.recoveries == 0


# -- publishing and declaring ------------------------------------------------------------------


def test_it_publishes_to_a_queue_with_properties_as_text_and_to_an_exchange(
    stage: Stage, channel: BlockingChannel
) -> None:
    channel.queue_declare("q", durable=True)
    channel.exchange_declare("news", "fanout")
    channel.queue_bind("q", "news")
    properties = BasicProperties(
        correlation_id="c", headers={"h": 1}, expiration="60000", content_type="own/type"
    )

    def publish(channel: Any, _method: Any) -> None:
        channel.basic_publish("", "q", b"1", properties)
        channel.basic_publish("", "q", "2")
        channel.basic_publish("news", "", b"3")
        channel.confirm_delivery()  # or what another channel sends might overtake them
        second = channel.connection.channel()
        second.basic_publish("", "q", b"4")
        second.close()

    stage.play(publish)
    eventually(lambda: messages_in(channel, "q") == 4)
    came = [channel.basic_get("q", auto_ack=True) for _ in range(4)]
    assert [body for _method, _properties, body in came] == [b"1", b"2", b"3", b"4"]
    seen = came[0][1]
    assert seen is not None
    assert (seen.correlation_id, seen.headers, seen.content_type) == ("c", {"h": 1}, "own/type")
    assert 0 < int(seen.expiration) <= 60_000


def test_queues_exchanges_and_bindings_come_and_go(
    stage: Stage, broker: PrivateBroker, vhost: str, queues: Queues
) -> None:
    def do_everything(its: Any, _method: Any) -> list[Any]:
        made = its.queue_declare(
            queue="made",
            passive=False,
            durable=True,
            exclusive=False,
            auto_delete=False,
            arguments={"x-max-length": 2},
        ).method
        its.exchange_declare(exchange="x", exchange_type=ExchangeType.topic)
        its.queue_bind(queue="made", exchange="x", routing_key="a.*")
        its.confirm_delivery()  # or what is unbound next might be unbound first
        its.basic_publish("x", "b.1", b"no")
        for body in (b"0", b"1", b"2"):
            its.basic_publish("x", "a.1", body)
        its.queue_unbind(queue="made", exchange="x", routing_key="a.*")
        its.basic_publish("x", "a.1", b"not any more")
        its.exchange_delete(exchange="x")
        got = its.basic_get(queue="made", auto_ack=True)
        held, _properties, body = its.basic_get("made")
        its.basic_ack(held.delivery_tag)
        empty = its.basic_get("made")
        its.basic_publish("", "made", b"left")
        counts = []
        for _ in range(2):
            counts.append(its.queue_declare("made", passive=True).method.message_count)
            its.queue_purge("made")
        its.queue_delete(queue="made", if_empty=True)
        return [
            (made.queue, made.message_count, made.consumer_count),
            (got[0].routing_key, got[0].message_count, got[2], body),
            empty,
            counts,
        ]

    assert stage.play(do_everything) == [
        ("made", 0, 0),
        ("a.1", 1, b"1", b"2"),
        (None, None, None),
        [1, 0],
    ]
    assert "made" not in queues()
    assert "x" not in [exchange["name"] for exchange in broker.management.exchanges(vhost)]


@pytest.mark.every_broker
def test_a_reply_queue_is_declared_whatever_others_declared_it_with(
    stage: Stage, channel: BlockingChannel
) -> None:
    channel.queue_declare("reply", durable=True, arguments={"x-expires": 60_000})

    def answer(channel: Any, _method: Any) -> Any:
        frame = channel.queue_declare(queue="reply")
        channel.basic_publish("", "reply", b"answer", BasicProperties(expiration="60000"))
        return frame.method.queue

    assert stage.play(answer) == "reply"
    eventually(lambda: messages_in(channel, "reply") == 1)
    channel.queue_delete("reply")


REFUSED: list[tuple[Callable[[Any], Any], int]] = [
    (lambda channel: channel.exchange_declare("missing", passive=True), 404),
    (lambda channel: channel.exchange_declare("amq.topic", exchange_type="fanout"), 406),
    (lambda channel: channel.queue_declare("locked", passive=True), 405),
    (lambda channel: channel.queue_declare("missing", passive=True), 404),
    (lambda channel: channel.queue_delete("locked"), 405),
    (lambda channel: channel.queue_delete("stage", if_unused=True), 406),
    (lambda channel: channel.queue_bind("stage", "missing", "key"), 404),
    (lambda channel: channel.basic_get("missing"), 404),
    (lambda channel: channel.basic_publish("missing", "key", b""), 404),
    (lambda channel: channel.queue_declare("amq.reserved"), 403),
    (lambda channel: publish_with(channel, expiration="-1"), 406),
    (lambda channel: publish_with(channel, expiration=str(2**32)), 406),
    (lambda channel: publish_with(channel, headers={"CC": "one"}), 406),
    (lambda channel: channel.queue_delete("not empty", if_empty=True), 406),
]


def test_a_refusal_is_raised_as_pika_does_and_harms_nobody(
    stage: Stage, channel: BlockingChannel
) -> None:
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    channel.queue_declare("full", durable=True, arguments=full)
    channel.queue_declare("locked", exclusive=True)
    channel.queue_declare("not empty", durable=True)
    channel.basic_publish("", "not empty", b"1")

    def be_refused(channel: Any, _method: Any) -> list[int]:
        codes = []
        for count in (-1, 65_536, "3", None):
            with pytest.raises(ValueError, match="prefetch_count="):
                channel.basic_qos(prefetch_count=count)
        for action, _code in REFUSED:
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
                action(channel)
            codes.append(caught.value.reply_code)
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.NackError):
            channel.basic_publish("", "full", b"too many", mandatory=True)
        return codes

    assert stage.play(be_refused) == [code for _action, code in REFUSED]


def test_what_can_be_tolerated_is(stage: Stage, channel: BlockingChannel) -> None:
    channel.queue_declare("other properties", durable=True)

    def do_it(channel: Any, method: Any) -> None:
        channel.queue_declare("other properties", durable=False, auto_delete=True)
        channel.basic_qos(prefetch_count=10, global_qos=True)
        channel.basic_ack(method.delivery_tag + 1_000)
        for settle in (channel.basic_ack, channel.basic_ack, channel.basic_reject):
            settle(method.delivery_tag)
        channel.basic_nack(method.delivery_tag)

    for _ in range(2):  # once more: the first time must not have spoilt anything
        stage.play(do_it)


def test_an_exclusive_queue_made_in_a_callback_can_be_read_there(
    channel: BlockingChannel, make_connector: MakeConnector, engine: Engine
) -> None:
    stage = Stage(channel, make_connector(), "function", auto_ack=False, **engine)

    def round_trip(channel: Any, _method: Any) -> Any:
        name = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()
        channel.basic_publish("", name, b"to myself")
        body = channel.basic_get(name, auto_ack=True)[2]
        channel.queue_delete(name)
        return body

    assert stage.play(round_trip) == b"to myself"


def test_a_callback_can_ask_for_something_to_be_done_between_messages(stage: Stage) -> None:
    done: list[str] = []

    def later(channel: Any, _method: Any) -> str:
        channel.connection.add_callback_threadsafe(
            lambda: done.append(threading.current_thread().name)
        )
        channel.connection.call_later(0.05, lambda: done.append(threading.current_thread().name))
        return threading.current_thread().name

    name = stage.play(later)
    eventually(lambda: len(done) == 2)
    # a coroutine has it done by its loop
    assert set(done) in ({name}, {"mq-asyncio:test_service"})


@pytest.mark.embedded_broker
def test_declares_go_on_when_the_broker_ends_an_idle_connection(
    stage: Stage, drop_connections: DropConnections
) -> None:
    stage.play(lambda channel, _: channel.queue_declare("before", durable=True))
    drop_connections("control")
    frame = stage.play(lambda channel, _: channel.queue_declare("after", durable=True))
    assert frame.method.queue == "after"


@pytest.mark.parametrize("way", ["close", "stop_consuming", "basic_cancel", "connection"])
def test_closing_the_channel_stops_this_consumer_and_no_other(
    make_connector: MakeConnector, channel: BlockingChannel, engine: Engine, vhost: str, way: str
) -> None:
    first, second = Seen(), Seen()

    def close(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        first(channel, method, properties, body)
        if way == "connection":  # which is not the callback's: nothing is closed
            channel.connection.close()
        else:
            getattr(channel, way)()

    put(channel, "a", b"1", b"2")
    connector = make_connector()
    connector.register_consumer("a", vhost, "a", close, ack="on_success", **engine)
    connector.register_consumer("b", vhost, "b", second, durable=True, **engine)
    run(connector)
    first.wait_for(1)
    if way != "connection":
        eventually(lambda: not connector.consumers["a"].is_alive())
        assert first.bodies == [b"1"]
        eventually(lambda: messages_in(channel, "a") == 1)
    put(channel, "b", b"still here")
    assert second.wait_for(1) == [b"still here"]
    assert connector.consumers["b"].consumer.recoveries == 0


@pytest.mark.embedded_broker
def test_acks_for_a_connection_that_is_gone_settle_nothing_on_the_next(
    serve: Serve, channel: BlockingChannel, seen: Seen, drop_connections: DropConnections
) -> None:
    kept: list[tuple[Any, int, bytes]] = []

    def keep(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        kept.append((channel, method.delivery_tag, body))
        seen(channel, method, properties, body)

    put(channel, "q", b"0", b"1", b"2")
    connector = serve(keep, seen.on_error, auto_ack=False)
    seen.wait_for(3)
    drop_connections("consuming")
    seen.wait_for(6)
    for old_channel, tag, _body in kept[:3]:
        assert old_channel.is_closed
        old_channel.basic_ack(tag)  # numbers that mean other messages by now, or the same
        old_channel.basic_nack(tag, requeue=False)
    connector.stop()
    eventually(lambda: messages_in(channel, "q") == 3)
