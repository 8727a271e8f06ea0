"""What publishers of ours send reaches old consumers and subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.old_peers import DATA, OldPeer

Publish = Callable[..., Any]


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

    [got] = old_subscriber.wait_got(by=exchange)
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

    [got] = old_subscriber.wait_got(by=queue)
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

    got = old_subscriber.wait_got(2, by=queue)
    assert [each["body"]["number"] for each in got] == [0, 1]
