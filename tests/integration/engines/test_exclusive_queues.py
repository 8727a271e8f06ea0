"""Queues that only one connection may use."""

from __future__ import annotations

from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.integration.conftest import DropConnections, MakeConnector, Queues, Seen, Serve
from tests.support.polling import eventually

Engine = dict[str, Any]


def test_nobody_else_may_use_it_and_it_goes_with_its_consumer(
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
def test_held_by_another_it_is_told_and_taken_over_when_that_one_goes(
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
def test_after_a_loss_it_is_made_anew_and_bound(
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
