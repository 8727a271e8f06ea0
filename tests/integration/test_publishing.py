"""What a call that returned has brought into a queue, and what it says when it has not."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQError, PublishRefusedError, UnroutableError
from neon_mq_connector.publishing.message import Message
from tests.integration.conftest import MakeConnector, Seen, consume, messages_in
from tests.support.polling import eventually
from tests.support.publishing import submit


def message(body: bytes = b"body", queue: str = "q", **more: Any) -> Message:
    return Message("", queue, body, BasicProperties(), **{"mandatory": True, **more})


@pytest.mark.parametrize(
    "body, properties, reason",
    [
        (bytes(16 * 2**20 + 1), BasicProperties(), "larger than"),
        (b"", BasicProperties(user_id="another"), "user_id"),
    ],
    ids=["too large", "of another user"],
)
def test_a_message_that_the_broker_refuses_is_told_why_and_costs_no_other(
    body: bytes,
    properties: BasicProperties,
    reason: str,
    connections: Connections,
    channel: BlockingChannel,
) -> None:
    channel.queue_declare("q", durable=True)
    publisher = connections.publisher
    refused = Message("", "q", body, properties, mandatory=True)
    publisher.publish(message(), timeout=120)
    futures = [submit(publisher, each, timeout=120) for each in (refused, *[message()] * 50)]
    with pytest.raises(PublishRefusedError, match=reason) as caught:
        futures[0].result(120)
    assert caught.value.may_have_arrived is False
    for future in futures[1:]:
        future.result(120)
    eventually(lambda: messages_in(channel, "q") == 51)


def test_a_queue_that_is_missing_is_said_by_its_name(connections: Connections) -> None:
    with pytest.raises(UnroutableError, match="'missing'") as caught:
        connections.publisher.publish(message(queue="missing"), timeout=120)
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize(
    "routing_key, properties",
    [
        ("q" * 300, BasicProperties()),
        ("q", BasicProperties(headers={"key": object()})),
        ("q", BasicProperties(message_id="\ud800")),
        ("q", BasicProperties(correlation_id="x" * 300)),
    ],
    ids=["long routing key", "strange header", "lone surrogate", "long property"],
)
def test_what_cannot_be_put_on_the_wire_is_refused_at_once_and_mixes_nothing_up(
    connections: Connections,
    channel: BlockingChannel,
    routing_key: str,
    properties: BasicProperties,
) -> None:
    channel.queue_declare("q", durable=True)
    publisher = connections.publisher
    publisher.publish(message(b"before"), timeout=120)
    impossible = Message("", routing_key, b"impossible", properties, mandatory=True)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its kind is for the library to choose
        publisher.publish(impossible, timeout=120)
    assert not isinstance(caught.value, TimeoutError)
    publisher.publish(message(b"after"), timeout=120)
    assert messages_in(channel, "q") == 2


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06])
def test_closing_while_many_publish_leaves_nobody_waiting_and_no_message_in_doubt(
    connections: Connections, channel: BlockingChannel, delay: float
) -> None:
    channel.queue_declare("q", durable=True)
    connections.publisher.publish(message(b"first"), timeout=120)
    confirmed: list[bytes] = []
    in_doubt: list[bytes] = []

    def publish(thread: int) -> None:
        for number in range(10_000):
            body = b"%d-%d" % (thread, number)
            try:
                connections.publisher.publish(message(body), timeout=600.0)
            except MQError as error:
                if getattr(error, "may_have_arrived", False):
                    in_doubt.append(body)
                return
            else:
                confirmed.append(body)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(delay)
    assert connections.close(120)
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    arrived = set()
    while (answer := channel.basic_get("q", auto_ack=True))[0] is not None:
        arrived.add(answer[2])
    assert set(confirmed) <= arrived
    assert arrived - set(confirmed) - {b"first"} <= set(in_doubt)


def test_what_is_sent_after_a_stop_still_arrives(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen
) -> None:
    connector = consume(make_connector(), seen, queue="in")
    connector.stop()
    connector.send_message({"n": 1}, queue="out")
    assert messages_in(channel, "out") == 1
    connector.stop()
