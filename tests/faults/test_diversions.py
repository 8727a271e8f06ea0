"""A requester says where its answer goes, and nothing of where other messages go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.envelope import DIRECT_REPLY_TO, REPLY_QUEUE, REPLY_QUEUE_PREFIX
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.faults.conftest import Start
from tests.faults.peer import Peer
from tests.support.polling import eventually

QUEUE, BILLING = "orders", "billing"


class Requester:
    """Ask by plain pika, and note what comes by direct reply-to."""

    def __init__(self, channel: BlockingChannel) -> None:
        self.answers: list[bytes] = []
        self._channel = channel
        channel.basic_consume(DIRECT_REPLY_TO, self._take, auto_ack=True)

    def _take(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.answers.append(body)

    def ask(self, body: dict[str, Any], reply_queue: str) -> None:
        properties = BasicProperties(
            reply_to=DIRECT_REPLY_TO, correlation_id="1", headers={REPLY_QUEUE: reply_queue}
        )
        self._channel.basic_publish("", QUEUE, dict_to_b64(body), properties)

    def has_an_answer(self) -> bool:
        self._channel.connection.process_data_events(0)
        return bool(self.answers)


@pytest.fixture
def requester(connection_params: pika.ConnectionParameters) -> Iterator[Requester]:
    with pika.BlockingConnection(connection_params) as connection:
        yield Requester(connection.channel())


def by_send_message(service: MQConnector) -> Callable[..., None]:
    def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        invoice = {"invoice": b64_to_dict(body)["order"], "message_id": "i"}
        service.send_message(invoice, queue=BILLING)

    return callback


def by_basic_publish(_service: MQConnector) -> Callable[..., None]:
    def callback(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        channel.queue_declare(BILLING, durable=True)
        channel.basic_publish("", BILLING, dict_to_b64({"invoice": b64_to_dict(body)["order"]}))

    return callback


WAYS = [by_send_message, by_basic_publish]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_meant_for_another_service_reaches_it_whatever_a_requester_calls_its_own(
    way: Callable[[MQConnector], Any],
    start: Start,
    service: MQConnector,
    requester: Requester,
    peer: Peer,
) -> None:
    peer.declare(BILLING)
    start(QUEUE, way(service))
    requester.ask({"order": 1, "routing_key": BILLING, "message_id": "1"}, BILLING)
    eventually(lambda: peer.counts(BILLING)[0] == 1, what="the invoice is in its queue")
    assert not requester.has_an_answer()
    ((_properties, body),) = peer.take_all(BILLING)
    assert b64_to_dict(body)["invoice"] == 1


@pytest.mark.parametrize("name", [REPLY_QUEUE_PREFIX + "mine", "mine"])
def test_an_answer_reaches_whoever_asked(
    name: str, start: Start, requester: Requester, peer: Peer
) -> None:
    def callback(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        queue = b64_to_dict(body)["routing_key"]
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, dict_to_b64({"text": "here"}))

    start(QUEUE, callback)
    requester.ask({"routing_key": name, "message_id": "1"}, name)
    if name.startswith(REPLY_QUEUE_PREFIX):
        eventually(requester.has_an_answer, what="it comes the direct way")
    else:
        eventually(lambda: peer.counts(name)[0] == 1, what="it is in the queue that was named")
