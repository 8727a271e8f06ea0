"""Messages come, are handled, acknowledged, repeated, parked, and given back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import AckMode
from neon_mq_connector.testing import PrivateBroker
from tests.integration.conftest import (
    DropConnections,
    MakeConnector,
    Queues,
    Seen,
    Serve,
    messages_in,
    numbered,
    put,
    run,
)
from tests.support.engines import tell_at_once
from tests.support.polling import eventually

Engine = dict[str, Any]


@pytest.mark.parametrize("ack", [AckMode.ON_RECEIPT, AckMode.ON_SUCCESS])
def test_every_message_is_handled_once_and_in_order(
    serve: Serve, channel: BlockingChannel, seen: Seen, ack: AckMode
) -> None:
    put(channel, "q", *numbered(200))
    connector = serve(seen, ack=ack)
    assert seen.wait_for(200) == numbered(200)
    connector.stop()
    assert messages_in(channel, "q") == 0
    assert not seen.redelivered


@pytest.mark.parametrize("ack", list(AckMode))
def test_a_stop_lets_the_callback_finish_and_gives_back_the_rest(
    serve: Serve, channel: BlockingChannel, seen: Seen, ack: AckMode
) -> None:
    entered, release = threading.Event(), threading.Event()
    ends: list[str] = []

    def slow(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        entered.set()
        assert release.wait(120)
        connector.send_message({"answer": 1}, queue="answers")
        seen(channel, method, properties, body)
        ends.append("callback")
        if ack is AckMode.MANUAL:
            channel.basic_ack(method.delivery_tag)

    put(channel, "q", *numbered(30))
    channel.queue_declare("answers", durable=True)
    connector = serve(slow, ack=ack)
    assert entered.wait(120)

    def stop() -> None:
        connector.stop()
        ends.append("stop")

    stopping = threading.Thread(target=stop)
    stopping.start()
    eventually(lambda: not connector.started)
    release.set()
    stopping.join(120)
    assert ends == ["callback", "stop"]
    assert seen.bodies == [b"0"]
    eventually(lambda: messages_in(channel, "q") == 29)
    # what the callback has sent meanwhile has arrived, and left no connection open
    assert messages_in(channel, "answers") == 1
    assert connector.health().connections == ()


def test_a_multiple_ack_does_not_reach_messages_that_no_callback_has_seen(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    entered, release = threading.Event(), threading.Event()

    def ack_all(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        seen(channel, method, properties, body)
        if body == b"2":
            channel.basic_ack(method.delivery_tag + 100, multiple=True)
            entered.set()
            assert release.wait(120)

    put(channel, "q", *numbered(10))
    connector = serve(ack_all, auto_ack=False)
    assert entered.wait(120)
    stopping = threading.Thread(target=connector.stop)
    stopping.start()
    release.set()
    stopping.join(120)
    eventually(lambda: messages_in(channel, "q") == 7)


def test_as_many_callbacks_run_side_by_side_as_asked_for(
    serve: Serve, channel: BlockingChannel
) -> None:
    together = threading.Barrier(5)
    put(channel, "q", *numbered(4))
    connector = serve(lambda *_: together.wait(120), ack="on_success", concurrency=4)
    together.wait(120)
    connector.stop()
    assert messages_in(channel, "q") == 0


# -- outages -----------------------------------------------------------------------------------


@pytest.mark.embedded_broker
@pytest.mark.every_engine
def test_a_connection_that_the_broker_ends_is_replaced_and_told_once(
    engine: Engine,
    make_connector: MakeConnector,
    channel: BlockingChannel,
    seen: Seen,
    broker: PrivateBroker,
    vhost: str,
    drop_connections: DropConnections,
) -> None:
    put(channel, "q", b"before")
    connector = make_connector()
    connector.register_consumer("c", vhost, "q", seen, seen.on_error, ack="on_success", **engine)
    tell_at_once(connector.consumers["c"])
    run(connector)
    seen.wait_for(1)

    def left() -> list[int]:
        return [row["messages"] for row in broker.list_queues(vhost) if row["name"] == "q"]

    eventually(lambda: left() == [0], what="the broker has its ack")
    assert drop_connections("consuming") == 1
    eventually(lambda: seen.errors)
    eventually(connector.check_health)
    put(channel, "q", b"after")
    assert seen.wait_for(2) == [b"before", b"after"]
    assert len(seen.errors) == 1
    assert not seen.redelivered


# -- what is subscribed and bound --------------------------------------------------------------


def test_each_subscriber_gets_each_message_and_its_queue_goes_with_it(
    engine: Engine, make_connector: MakeConnector, vhost: str, queues: Queues
) -> None:
    first, second, third = Seen(), Seen(), Seen()
    connector = make_connector()
    for name, each in (("a", first), ("b", second)):
        connector.register_subscriber(name, vhost, each, exchange="news", **engine)
    other = make_connector()
    other.register_subscriber("a", vhost, third, exchange="news", **engine)
    run(connector)
    run(other)
    for number in range(20):
        connector.send_message({"n": number}, exchange="news", exchange_type="fanout")
    for each in (first, second, third):
        each.wait_for(20)
    assert first.bodies == second.bodies == third.bodies
    connector.stop()
    other.stop()
    eventually(lambda: queues() == set())


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "kind, keys, sent, expected",
    [
        ("direct", (), ["q", "other"], [b"q"]),
        ("direct", ("red", "blue"), ["red", "green", "blue"], [b"red", b"blue"]),
        ("topic", ("log.*", "#.error"), ["log.a", "x.y.error", "a.b"], [b"log.a", b"x.y.error"]),
        ("fanout", (), ["any", "thing"], [b"any", b"thing"]),
    ],
)
def test_a_queue_gets_what_its_bindings_say(
    serve: Serve,
    channel: BlockingChannel,
    seen: Seen,
    kind: str,
    keys: tuple[str, ...],
    sent: list[str],
    expected: list[bytes],
) -> None:
    serve(seen, exchange="x", exchange_type=kind, routing_keys=keys)
    for key in sent:
        channel.basic_publish("x", key, key.encode())
    assert seen.wait_for(len(expected)) == expected


@pytest.mark.one_engine
def test_a_reset_queue_begins_empty_and_unbound(
    serve: Serve, channel: BlockingChannel, seen: Seen
) -> None:
    put(channel, "q", *numbered(3))
    serve(seen, queue_reset=True)
    put(channel, "q", b"new", declare=False)
    assert seen.wait_for(1) == [b"new"]


@pytest.mark.every_broker
def test_a_queue_without_a_name_gets_one_from_the_broker_and_keeps_it_through_an_outage(
    serve: Serve, channel: BlockingChannel, seen: Seen, drop_connections: DropConnections
) -> None:
    connector = serve(seen, seen.on_error, exchange="x", exchange_type="fanout", queue="")
    name = connector.consumers["c"].queue
    assert name
    drop_connections("consuming")
    eventually(lambda: connector.consumers["c"].consumer.recoveries)
    channel.basic_publish("x", "", b"during the outage, perhaps")
    seen.wait_for(1)
    assert connector.consumers["c"].queue == name


# -- queues that only one connection may use ---------------------------------------------------


def test_nobody_else_may_use_an_exclusive_queue_and_it_goes_with_its_consumer(
    serve: Serve, channel: BlockingChannel, seen: Seen, queues: Queues
) -> None:
    connector = serve(seen, queue_exclusive=True, queue="mine")
    channel.basic_publish("", "mine", b"for the owner")
    seen.wait_for(1)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="RESOURCE_LOCKED"):
        channel.queue_declare("mine", passive=True)
    connector.stop()
    eventually(lambda: queues() == set())


@pytest.mark.every_engine
def test_an_exclusive_queue_of_another_is_told_and_taken_over_when_that_one_goes(
    engine: Engine,
    make_connector: MakeConnector,
    connection_params: pika.ConnectionParameters,
    seen: Seen,
    vhost: str,
) -> None:
    holder = pika.BlockingConnection(connection_params)
    holder.channel().queue_declare("mine", exclusive=True)
    connector, sibling = make_connector(), Seen()
    connector.register_consumer("sibling", vhost, "other", sibling, durable=True, **engine)
    connector.register_consumer(
        "c", vhost, "mine", seen, seen.on_error, queue_exclusive=True, **engine
    )
    connector.run_consumers()
    consumer = connector.consumers["c"].consumer
    eventually(lambda: consumer.recoveries >= 3, what="it was tried a few times")
    assert not connector.check_health()
    assert "'mine'" in str(seen.errors[0])
    assert "another connection holds it" in str(seen.errors[0])
    holder.close()
    eventually(lambda: connector.consumers["c"].is_consuming)
    assert len(seen.errors) == 1
    connector.send_message({"n": 1}, queue="other")
    sibling.wait_for(1)
    assert connector.consumers["sibling"].consumer.recoveries == 0


@pytest.mark.parametrize("name", ["mine", ""])
def test_after_a_loss_an_exclusive_queue_is_made_anew_and_bound(
    serve: Serve, channel: BlockingChannel, seen: Seen, name: str, drop_connections: DropConnections
) -> None:
    connector = serve(
        seen, seen.on_error, exchange="x", exchange_type="fanout", queue_exclusive=True, queue=name
    )
    drop_connections("consuming")
    eventually(lambda: connector.consumers["c"].consumer.recoveries)
    eventually(lambda: connector.consumers["c"].is_consuming)
    channel.basic_publish("x", "", b"again")
    assert seen.wait_for(1) == [b"again"]


# -- coming and going --------------------------------------------------------------------------


def test_a_consumer_that_is_replaced_while_it_runs_loses_nothing(
    engine: Engine, make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    put(channel, "q", *numbered(150))
    connector = make_connector()
    generations = [Seen() for _ in range(4)]

    def handle(seen: Seen) -> Any:
        def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            time.sleep(0.002)
            seen(channel, method, properties, body)

        return callback

    for seen in generations:
        before = connector.consumers.get("c")
        connector.register_consumer(
            "c", connector.vhost, "q", handle(seen), ack="on_success", **engine
        )
        if before is None:
            run(connector)
        else:
            assert not before.is_alive()
            connector.run_consumers()
        seen.wait_for(5)
    eventually(lambda: sum(len(seen.bodies) for seen in generations) >= 150)
    connector.stop()
    handled = [body for seen in generations for body in seen.bodies]
    assert sorted(handled) == sorted(numbered(150))
    assert messages_in(channel, "q") == 0


@pytest.mark.one_engine
def test_running_and_stopping_from_many_threads_at_once_raises_nothing(
    make_connector: MakeConnector, engine: Engine
) -> None:
    connector = make_connector()
    connector.observe_period = connector.sync_period = 0.05
    for number in range(3):
        connector.register_consumer(f"c{number}", connector.vhost, f"q{number}", print, **engine)
    deeds: list[Callable[[], object]] = [
        lambda: connector.run(mq_timeout=120),
        connector.run_consumers,
        lambda: connector.restart_consumer("c1"),
        connector.observe_consumers,
        connector.stop,
        connector.check_health,
    ]
    end = time.monotonic() + 1.5

    def work(number: int) -> None:
        choose = random.Random(number)
        while time.monotonic() < end:
            choose.choice(deeds)()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(6)]:
            each.result(120)
    connector.stop()
    connector.run(run_sync=False)
    eventually(connector.check_health)
