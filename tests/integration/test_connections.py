"""How many connections there are, what they are called and carry, and that they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link import ChannelEvents
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.topology import Exchange, Queue, declare_queue
from tests.integration.conftest import MakeConnector, Seen, run
from tests.support.answering import ask, ask_until_it_has_moved
from tests.support.configurations import config_of
from tests.support.polling import eventually


def names(broker: RunningBroker, vhost: str) -> list[str]:
    return sorted(
        str(row.get("client_properties", {}).get("connection_name"))
        for row in broker.management.connections(vhost)
    )


def test_an_operator_sees_whose_connection_it_is_and_what_for(
    make_connector: MakeConnector, seen: Seen, broker: RunningBroker, vhost: str
) -> None:
    connector = make_connector()
    for number in range(5):
        connector.register_consumer(f"c{number}", vhost, f"q{number}", seen)
    run(connector)
    connector.send_message({"n": 1}, queue="q0")
    expected = ["test_service consuming", "test_service control", "test_service publishing"]
    eventually(lambda: names(broker, vhost) == expected)


def test_a_dedicated_connection_is_one_consumers_alone_and_ends_with_it(
    make_connector: MakeConnector, broker: RunningBroker, vhost: str, channel: BlockingChannel
) -> None:
    first, second = Seen(), Seen()
    connector = make_connector()
    connector.register_consumer("a", vhost, "a", first)
    connector.register_consumer("b", vhost, "b", second, dedicated_connection=True)
    run(connector)
    eventually(lambda: names(broker, vhost).count("test_service consuming") == 2)
    connector.stop_consumers(["b"])
    eventually(lambda: names(broker, vhost).count("test_service consuming") == 1)
    channel.basic_publish("", "a", b"still")
    first.wait_for(1)


def test_many_threads_that_need_a_connection_at_once_get_the_same(
    connections: Connections,
) -> None:
    barrier = threading.Barrier(8)

    def ask(_number: int) -> tuple[Any, ...]:
        barrier.wait(120)
        return connections.publisher, connections.control, connections.consuming

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_closed_it_stays_closed_and_says_so(connections: Connections) -> None:
    control, look_up = connections.control, Exchange("amq.direct").declare(passive=True)
    control.perform_step(look_up, timeout=120)
    assert connections.close(5.0)
    assert connections.close(5.0)
    for part in ("publisher", "control", "consuming", "requests"):
        with pytest.raises(StoppedError, match="closed"):
            getattr(connections, part)
    with pytest.raises(StoppedError):
        control.perform_step(look_up, timeout=120)


def test_closing_what_was_never_opened_takes_no_time(connections: Connections) -> None:
    assert connections.close(600.0)


@pytest.mark.parametrize("_round", range(5))
def test_closing_at_any_moment_of_opening_ends_every_thread(
    connections: Connections, _round: int
) -> None:
    faults: list[BaseException] = []

    def use(action: Any) -> None:
        try:
            action()
        except StoppedError:
            pass
        except BaseException as fault:
            if "stopp" not in str(fault) and "closed" not in str(fault):
                faults.append(fault)

    def declare() -> None:
        connections.control.perform(
            "declaring", lambda facts: declare_queue(Queue("q", durable=True), facts), timeout=120
        )

    def open_channel() -> None:
        connections.consuming.open_channel(ChannelEvents(), timeout=120)

    threads = [
        threading.Thread(target=use, args=(action,))
        for action in (declare, open_channel, declare, open_channel)
    ]
    for thread in threads:
        thread.start()
    assert connections.close(120)
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert not faults


@pytest.mark.needs_rabbitmq  # the limit is a setting of its own
def test_more_consumers_than_a_connection_has_channels_all_consume(
    start_broker: Callable[..., PrivateBroker],
) -> None:
    broker = start_broker(config={"channel_max": "8"})
    connector = MQConnector(config_of(broker, "many"), "many")
    seen: set[str] = set()
    lock = threading.Lock()

    def note(_channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        with lock:
            seen.add(method.routing_key)

    for number in range(20):
        connector.register_consumer(f"c{number}", "/", f"q{number}", note)
    connector.run(run_sync=False)
    try:
        eventually(connector.check_health)
        consuming = [each for each in connector.health().connections if "mq-io" in each.name]
        assert len(consuming) == 3
        with pika.BlockingConnection(pika.URLParameters(broker.url())) as connection:
            channel = connection.channel()
            for number in range(20):
                channel.basic_publish("", f"q{number}", b"x")
        eventually(lambda: len(seen) == 20, what="each queue is consumed")
    finally:
        connector.stop()


class Squares(MQConnector):
    """Answer with squares, on receipt."""

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"square": body["n"] ** 2}


@pytest.mark.needs_rabbitmq
def test_answers_have_a_channel_where_their_consumers_take_all_of_a_connection(
    start_broker: Callable[..., PrivateBroker],
) -> None:
    broker = start_broker(config={"channel_max": "1"})
    connector = Squares(config_of(broker, "many"), "many")
    connector.register_consumer("squares", "/", "squares", connector.square, durable=True)
    connector.run(run_sync=False)
    credentials = pika.PlainCredentials(broker.username, broker.password)
    parameters = pika.ConnectionParameters(broker.host, broker.port, credentials=credentials)
    client = RequestClient([parameters], owner="tests")
    try:
        ask_until_it_has_moved(client, connector, "squares", "squares")
        assert ask(client, "squares", range(100), timeout=60.0) == 100
    finally:
        client.close()
        connector.stop()
