"""A connection has so many channels; more consumers than that get one more connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.testing import PrivateBroker
from tests.support.configurations import config_of
from tests.support.polling import eventually


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
        assert connector.check_health(), connector.health().reasons
        consuming = [each for each in connector.health().connections if "mq-io" in each.name]
        assert len(consuming) == 3
        with pika.BlockingConnection(pika.URLParameters(broker.url())) as connection:
            channel = connection.channel()
            for number in range(20):
                channel.basic_publish("", f"q{number}", b"x")
        eventually(lambda: len(seen) == 20, what="each queue is consumed")
    finally:
        connector.stop()
