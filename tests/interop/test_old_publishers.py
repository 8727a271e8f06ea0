"""What an old publisher sends reaches consumers and subscribers of ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer
from tests.interop.our_service import Received, start


@pytest.mark.parametrize("how", ["send", "emit"])
def test_a_consumer_of_ours_gets_what_an_old_publisher_sends_to_its_queue(
    old_publisher: OldPeer, our_connector: Any, received: Received, vhost: str, queue: str, how: str
) -> None:
    our_connector.register_consumer("mine", vhost, queue, our_connector.collector("mine"))
    start(our_connector)

    message_id = old_publisher.ask(how, data={"data": DATA}, queue=queue)

    assert received.wait("mine") == [{"data": DATA, "message_id": message_id}]


def test_a_consumer_of_ours_takes_over_a_queue_that_an_old_publisher_made(
    old_publisher: OldPeer, our_connector: Any, received: Received, vhost: str, queue: str
) -> None:
    for number in range(3):
        old_publisher.ask("send", data={"number": number}, queue=queue, expiration=600_000)

    our_connector.register_consumer("mine", vhost, queue, our_connector.collector("mine"))
    start(our_connector)

    assert [body["number"] for body in received.wait("mine", 3)] == [0, 1, 2]


@pytest.mark.parametrize("how", ["send", "emit", "publish"])
def test_subscribers_of_ours_get_what_an_old_publisher_sends_to_a_fanout_exchange(
    old_publisher: OldPeer,
    our_connector: Any,
    received: Received,
    vhost: str,
    exchange: str,
    how: str,
) -> None:
    for name in ("one", "two"):
        our_connector.register_subscriber(
            name, vhost, our_connector.collector(name), exchange=exchange
        )
    start(our_connector)

    options = {} if how == "publish" else {"exchange_type": "fanout"}
    message_id = old_publisher.ask(how, data={"data": DATA}, exchange=exchange, **options)

    for name in ("one", "two"):
        assert received.wait(name) == [{"data": DATA, "message_id": message_id}]


def test_a_subscriber_of_ours_takes_an_exchange_that_an_old_publisher_made(
    old_publisher: OldPeer, our_connector: Any, received: Received, vhost: str, exchange: str
) -> None:
    old_publisher.ask("publish", data={"data": "too early"}, exchange=exchange)
    our_connector.register_subscriber(
        "mine", vhost, our_connector.collector("mine"), exchange=exchange
    )
    start(our_connector)

    old_publisher.ask("publish", data={"data": "in time"}, exchange=exchange)

    assert [body["data"] for body in received.wait("mine")] == ["in time"]


@pytest.mark.parametrize("exchange_type", ["direct", "topic"])
@pytest.mark.parametrize("first", ["ours", "old"])
def test_a_consumer_of_ours_gets_what_an_old_publisher_sends_to_an_exchange(
    old_publisher: OldPeer,
    our_connector: Any,
    received: Received,
    vhost: str,
    queue: str,
    exchange: str,
    exchange_type: str,
    first: str,
) -> None:
    def publish(data: str) -> None:
        old_publisher.ask(
            "send",
            data={"data": data},
            exchange=exchange,
            queue=queue,
            exchange_type=exchange_type,
        )

    if first == "old":
        publish("the exchange is not bound yet")
    our_connector.register_consumer(
        "mine",
        vhost,
        queue,
        our_connector.collector("mine"),
        exchange=exchange,
        exchange_type=exchange_type,
    )
    start(our_connector)

    publish("bound")

    assert [body["data"] for body in received.wait("mine")] == ["bound"]
