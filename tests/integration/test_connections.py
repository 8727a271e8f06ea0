"""How many connections there are, what they are called and carry, and that they end."""

from __future__ import annotations

import threading
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.link import ChannelEvents
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.topology import Exchange, Queue, declare_queue
from tests.integration.conftest import SERVICE, Asked, MakeConnector, Queues, Seen, run
from tests.support.answering import ask, ask_until_it_has_moved
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


def test_a_hundred_queues_share_one_connection_start_at_once_and_leave_nothing(
    make_connector: MakeConnector,
    client: RequestClient,
    broker: RunningBroker,
    vhost: str,
    queues: Queues,
) -> None:
    connector = make_connector(Asked)
    assert isinstance(connector, Asked)
    queue_names = [f"q{number}" for number in range(100)]
    connector.send_message({"open": "the connection"}, queue="elsewhere")
    for name in queue_names:
        connector.register_consumer(name, vhost, name, connector.square)
    connector.run_consumers()
    eventually(lambda: all(connector.consumers[name].is_consuming for name in queue_names))
    for number, name in enumerate(queue_names):
        assert ask(client, name, [number]) == 1
    eventually(lambda: names(broker, vhost).count(f"{SERVICE} consuming") == 1)
    connector.stop()
    client.close()
    assert queues() == {*queue_names, "elsewhere"}  # what services share stays


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


@pytest.mark.parametrize("_round", range(3))
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


def test_more_consumers_than_a_connection_has_channels_all_consume_and_answer(
    make_connector: MakeConnector, client: RequestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pika.connection.Parameters, "DEFAULT_CHANNEL_MAX", 4)
    connector = make_connector(Asked)
    assert isinstance(connector, Asked)
    queues = [f"q{number}" for number in range(12)]
    for queue in queues:
        connector.register_consumer(queue, connector.vhost, queue, connector.square, durable=True)
    run(connector)
    eventually(connector.check_health)
    consuming = [each for each in connector.health().connections if "mq-io" in each.name]
    assert len(consuming) == 3, "and none has room for answers"
    for queue in queues:
        assert ask(client, queue, range(3)) == 3
    ask_until_it_has_moved(client, connector, queues[0], queues[0])
    assert ask(client, queues[0], range(100)) == 100
