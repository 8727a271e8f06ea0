"""Messages acknowledged when their callback starts come once, and none is lost for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.faults.conftest import Start
from tests.faults.peer import Peer
from tests.support.polling import eventually

pytestmark = pytest.mark.one_engine

QUEUE = "conversation"
MANY = 40
#: When the connection is lost so many callbacks have started.
STARTED = 11


class Conversation:
    """A callback that notes what came, and waits in the midst of it."""

    def __init__(self, waits_at: int, release: threading.Event) -> None:
        self.bodies: list[bytes] = []
        self._waits_at = waits_at
        self._release = release

    def __call__(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.bodies.append(body)
        if len(self.bodies) == self._waits_at:
            self._release.wait(120)


SHARED = {"message_id": "shared"}
#: Where messages have the id that they share, by their number.
PLACES: dict[str, Callable[[int], tuple[BasicProperties, bytes]]] = {
    "the property": lambda number: (BasicProperties(**SHARED), b"%d" % number),
    "the body": lambda number: (
        BasicProperties(),
        dict_to_b64({"n": number, **SHARED, "context": {"mq": SHARED}}),
    ),
    "both, and all are alike": lambda _: (BasicProperties(**SHARED), dict_to_b64(SHARED)),
}


@pytest.mark.parametrize("place", PLACES)
def test_messages_that_share_an_id_are_all_handled(
    start: Start,
    place: str,
    service: MQConnector,
    proxy: FaultProxy,
    peer: Peer,
    release: threading.Event,
) -> None:
    peer.declare(QUEUE)
    with peer.channel() as channel:
        channel.confirm_delivery()
        for number in range(MANY):
            properties, body = PLACES[place](number)
            properties.delivery_mode = 2
            channel.basic_publish("", QUEUE, body, properties)
    conversation = Conversation(STARTED, release)
    start(QUEUE, conversation, concurrency=1, ack="on_receipt")
    # the broker has read all acks, so each of the others comes again
    eventually(lambda: peer.counts(QUEUE) == (0, MANY - STARTED), what="the others wait here")
    recoveries = service.consumers["it"].consumer.recoveries
    session = service.consumers["it"].consumer.session
    assert session is not None
    proxy.reset()
    eventually(lambda: peer.counts(QUEUE)[1] < MANY - STARTED, what="the broker knows of the loss")
    # what starts before may come again, and of messages that are alike none is dropped
    eventually(lambda: not session.is_attached, what="the consumer knows of the loss")
    release.set()
    eventually(lambda: service.consumers["it"].consumer.recoveries > recoveries)
    eventually(lambda: len(conversation.bodies) >= MANY, what="all are handled")
    peer.wait_until_settled(QUEUE)
    assert len(conversation.bodies) == MANY
    assert len(set(conversation.bodies)) == (1 if "alike" in place else MANY)


def test_a_message_whose_ack_was_lost_is_not_started_again(
    start: Start, proxy: FaultProxy, peer: Peer, release: threading.Event
) -> None:
    conversation = Conversation(1, release)
    start(QUEUE, conversation, concurrency=1, ack="on_receipt")
    peer.send(QUEUE, 5)
    eventually(lambda: peer.counts(QUEUE) == (0, 4), what="four wait behind the first")
    proxy.blackhole()
    release.set()
    eventually(lambda: len(conversation.bodies) == 5, what="they are started, and their acks lost")
    eventually(lambda: peer.counts(QUEUE) == (0, 4), what="the broker waits for the acks")
    proxy.restore()
    peer.wait_until_settled(QUEUE)
    assert sorted(conversation.bodies) == [b"m%d" % number for number in range(5)]
