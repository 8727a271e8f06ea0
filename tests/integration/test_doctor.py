"""What RabbitMQ itself decides of a diagnosis, and what it tells for a graph."""

from __future__ import annotations

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.operations.diagnosis import diagnose
from neon_mq_connector.operations.graph import Graph, add_broker
from neon_mq_connector.testing.running import RunningBroker
from tests.conftest import MQConfig
from tests.support.polling import eventually


@pytest.mark.needs_rabbitmq
@pytest.mark.refusing_only
def test_a_policy_and_the_ban_of_transient_queues_are_found(
    broker: RunningBroker, vhost: str, mq_config: MQConfig
) -> None:
    service = MQConnector(mq_config, "test_service")
    service.register_consumer("orders", vhost, "orders", lambda *_: None, durable=True)
    service.run_consumers()
    service.stop()
    broker.management.set_policy(vhost, "short", "^orders$", {"message-ttl": 1000})
    eventually(
        lambda: broker.management.queue(vhost, "orders").get("effective_policy_definition"),
        what="the policy is listed",
    )
    try:
        found = diagnose(service, vhost=vhost, management=broker.management)
    finally:
        broker.management.call("DELETE", "policies", vhost, "short")
    by_check = {each.check: each for each in found if each.check != "queue 'orders'"}
    not_ok = {check for check, each in by_check.items() if each.level.value != "ok"}
    assert not_ok == {"transient queues"}, found
    told = [each.message for each in found if each.check == "queue 'orders'"]
    assert any("'short' has message-ttl 1000" in message for message in told), told


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
