"""What old publishers send reaches consumers and subscribers of ours, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer
from tests.interop.our_service import Received, start

Publish = Callable[..., Any]


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


# -- a publisher of ours ------------------------------------------------------------------------


@pytest.fixture
def publish(our_connector: Any, vhost: str) -> Publish:
    """Publish with our connector, in one of the three ways it has; returns the message's id."""

    def publish_one(how: str, data: dict[str, Any], **options: Any) -> Any:
        if how == "send":
            return our_connector.send_message(data, vhost=vhost, **options)
        method = our_connector.emit_mq_message if how == "emit" else our_connector.publish_message
        with our_connector.create_mq_connection(vhost) as connection:
            return method(connection, data, **options)

    return publish_one


def fanout(how: str) -> dict[str, Any]:
    """Return what a way of publishing needs to be told about a fanout exchange."""
    return {} if how == "publish" else {"exchange_type": "fanout"}


@pytest.mark.parametrize("how", ["send", "emit", "publish"])
@pytest.mark.parametrize("first", ["ours", "old"])
def test_an_old_subscriber_hears_our_publisher(
    old_subscriber: OldPeer, publish: Publish, exchange: str, how: str, first: str
) -> None:
    if first == "ours":
        publish(how, {"data": "too early"}, exchange=exchange, **fanout(how))
    old_subscriber.ask("subscribe", name=exchange, exchange=exchange)

    message_id = publish(how, {"data": DATA}, exchange=exchange, **fanout(how))

    [got] = old_subscriber.wait_got(exchange)
    assert got["body"] == {"data": DATA, "message_id": message_id}


@pytest.mark.parametrize("how", ["send", "emit"])
@pytest.mark.parametrize("exchange_type", ["direct", "topic"])
def test_an_old_consumer_gets_what_we_send_to_its_exchange(
    old_subscriber: OldPeer,
    publish: Publish,
    queue: str,
    exchange: str,
    exchange_type: str,
    how: str,
) -> None:
    where = {"exchange": exchange, "queue": queue, "exchange_type": exchange_type}
    old_subscriber.ask("consume", name=queue, **where)

    publish(how, {"data": DATA}, **where)

    [got] = old_subscriber.wait_got(queue)
    assert got["body"]["data"] == DATA
    assert got["exchange"] == exchange


def test_an_old_consumer_takes_a_queue_and_an_exchange_that_our_publisher_made(
    old_subscriber: OldPeer, publish: Publish, queue: str, exchange: str
) -> None:
    # for fanout the queue is bound by what is emitted, so the first message waits in it
    where = {"exchange": exchange, "queue": queue, "exchange_type": "fanout"}
    publish("emit", {"number": 0}, expiration=600_000, **where)
    old_subscriber.ask("consume", name=queue, **where)

    publish("emit", {"number": 1}, **where)

    got = old_subscriber.wait_got(queue, 2)
    assert [each["body"]["number"] for each in got] == [0, 1]
