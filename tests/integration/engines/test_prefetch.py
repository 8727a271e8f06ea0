"""How far the broker sends ahead: as registered, or as a callback has asked for since."""

from __future__ import annotations

import threading
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.testing import PrivateBroker
from tests.integration.conftest import MakeConnector, consume, drop_connections, put
from tests.support.polling import eventually

Engine = dict[str, Any]


def test_what_a_callback_asks_for_holds_for_later_messages_and_after_a_loss(
    engine: Engine,
    make_connector: MakeConnector,
    channel: BlockingChannel,
    broker: PrivateBroker,
    vhost: str,
) -> None:
    release = threading.Event()
    asked: list[bool] = []

    def ask_for_two(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        if body == b"ask":
            channel.basic_qos(prefetch_count=2)
            asked.append(True)
            return
        release.wait(30.0)

    def unacknowledged() -> int:
        return sum(each["messages_unacknowledged"] for each in broker.list_queues(vhost))

    put(channel, "q", b"ask")
    connector = consume(
        make_connector(), ask_for_two, ack="on_success", prefetch_count=50, **engine
    )
    eventually(lambda: asked, what="the callback has asked")
    put(channel, "q", *[b"work"] * 10)
    eventually(lambda: unacknowledged() == 2, what="two are sent ahead, and no more")
    drop_connections(broker, vhost, "consuming")
    release.set()
    eventually(connector.check_health, what="it has recovered")
    eventually(lambda: unacknowledged() == 0, what="all are handled")
    release.clear()
    put(channel, "q", *[b"work"] * 10)
    eventually(lambda: unacknowledged() == 2, what="two are sent ahead after the loss too")
    release.set()
