"""The check that nothing of ours outlives a test, against a broker."""

from __future__ import annotations

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.testing.running import RunningBroker
from tests.support import leaks


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE_SECONDS", 0.2)


def test_queues_that_only_the_library_makes_are_named(
    broker: RunningBroker, vhost: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("a_service", durable=True)
    leaks.check_queues(broker, vhost)
    channel.queue_declare("subscription", durable=True, arguments={"x-expires": 60_000})
    channel.queue_declare("mine", exclusive=True)
    with pytest.raises(AssertionError) as caught:
        leaks.check_queues(broker, vhost)
    assert "subscription" in str(caught.value)
    assert "mine" in str(caught.value)
    assert "a_service" not in str(caught.value)
    channel.queue_delete("subscription")
    channel.queue_delete("mine")
