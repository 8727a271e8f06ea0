"""Queues that exist already, that may not be transient, and that old peers can declare too."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import TopologyError
from neon_mq_connector.operations.graph import Graph, add_broker
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.topology import Queue, QueueStatus, declare_queue
from tests.conftest import MQConfig
from tests.integration.conftest import MakeConnector, Queues, Seen, consume, put, run
from tests.support.polling import eventually
from tests.support.vhosts import User

SHAPES: dict[str, dict[str, Any]] = {
    "durable": {"durable": True},
    "quorum": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
    "bounded": {"durable": True, "arguments": {"x-max-length": 5}},
    "expiring": {"durable": True, "arguments": {"x-expires": 60_000}},
    "auto-delete": {"durable": True, "auto_delete": True},
}


def declare(connections: Connections, queue: Queue) -> QueueStatus:
    return connections.control.perform(
        f"declaring queue {queue.name!r}", lambda facts: declare_queue(queue, facts), timeout=120
    )


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_queue_that_exists_is_used_as_it_is(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen, shape: str
) -> None:
    channel.queue_declare("theirs", **SHAPES[shape])
    connector = consume(make_connector(), seen, seen.on_error, queue="theirs")
    connector.send_message({"n": 1}, queue="theirs")
    seen.wait_for(1)
    assert not seen.errors
    assert connector.check_health()
    connector.stop()
    if shape != "auto-delete":
        channel.queue_declare("theirs", **SHAPES[shape])  # it still is what it was
        channel.queue_delete("theirs")


def test_where_it_is_permitted_a_plain_queue_is_what_old_peers_declare(
    connections: Connections, channel: BlockingChannel
) -> None:
    declare(connections, Queue("plain"))
    channel.queue_declare("plain")  # pika's defaults, and no error


@pytest.mark.refusing_only
def test_where_it_is_refused_a_plain_queue_is_made_durable_and_asked_for_only_once(
    connections: Connections, channel: BlockingChannel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="neon_mq_connector.topology"):
        declare(connections, Queue("one"))
        declare(connections, Queue("two"))
    channel.queue_declare("one", durable=True)
    channel.queue_declare("two", durable=True)
    refusals = [record for record in caplog.records if "refuses" in record.getMessage()]
    assert len(refusals) == 1
    assert "'one'" in refusals[0].getMessage()


@pytest.mark.every_broker
def test_an_answer_to_somebody_who_is_gone_leaves_no_queue(
    make_connector: MakeConnector, channel: BlockingChannel, queues: Queues
) -> None:
    service = make_connector()
    gone = "neon.reply.of-somebody-who-is-gone"
    outcomes: list[BaseException] = []

    def answer(callback_channel: Any, _method: Any, _properties: Any, _body: bytes) -> None:
        service.send_message({"by": "connector"}, queue=gone)
        service.publish_many([{"by": "connector"}] * 3, queue=gone)
        service.submit_message({"by": "connector"}, queue=gone).result(120)
        callback_channel.basic_publish("", gone, b"by the channel")

    service.register_consumer(
        "c", service.vhost, "q", answer, lambda _thread, error: outcomes.append(error)
    )
    run(service)
    put(channel, "q", b"request", declare=False)
    eventually(lambda: service.health().consumers["c"].handled == 1)
    assert outcomes == []
    assert gone not in queues()


@pytest.mark.refusing_only
def test_where_reply_queues_are_refused_a_request_leaves_none(
    client: RequestClient, queues: Queues
) -> None:
    asked = client.submit(RequestSpec("nobody", {"ask": 1}, timeout=120))
    eventually(lambda: queues() == {"nobody"})
    asked.cancel()


def test_a_name_that_the_broker_reserves_is_said_in_its_words(
    connections: Connections,
) -> None:
    with pytest.raises(TopologyError, match=r"'amq\.mine'.*403 ACCESS_REFUSED"):
        declare(connections, Queue("amq.mine"))


def test_a_service_that_may_not_declare_uses_what_is_there(
    make_connector: MakeConnector,
    channel: BlockingChannel,
    mq_user: User,
    seen: Seen,
    broker: RunningBroker,
    vhost: str,
) -> None:
    channel.queue_declare("theirs", durable=True)
    broker.management.permit(mq_user.name, vhost, configure="^$")
    connector = make_connector()
    connector.register_consumer("c", vhost, "theirs", seen, seen.on_error, durable=True)
    connector.run_consumers()
    channel.basic_publish("", "theirs", b"message")
    seen.wait_for(1)
    assert not seen.errors


def test_the_graph_of_a_broker_has_its_services(
    broker: RunningBroker, vhost: str, mq_config: MQConfig
) -> None:
    service = MQConnector(mq_config, "test_service")
    service.register_consumer("orders", vhost, "orders", lambda *_: None, exchange="trade")
    service.run_consumers()

    def edges() -> set[tuple[str, str]]:
        graph = Graph()
        add_broker(graph, broker.management, vhost)
        return {(each.source.name, each.target.name) for each in graph.edges}

    try:
        eventually(
            lambda: edges() == {("trade", "orders"), ("orders", "test_service")},
            what="exchange, queue and service are listed",
        )
    finally:
        service.stop()
