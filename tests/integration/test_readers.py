"""A callback that sends an answer in parts is told when they are read no longer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.codec import b64_to_dict, dict_to_b64
from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.errors import ReaderGoneError
from tests.integration.conftest import MakeConnector, consume
from tests.support.polling import eventually

PAUSE = 0.01
#: To send so many takes longer than the channel waits before it asks the broker twice.
MANY = 30


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neon_mq_connector.consumers.reply_route._ASK_EVERY", 0.1)


class Endless(MQConnector):
    """Sends parts until nobody reads them."""

    def __init__(self, config: dict[str, Any], service_name: str) -> None:
        super().__init__(config, service_name)
        self.calls = 0
        self.told: ReaderGoneError | None = None
        self._never = threading.Event()

    def parts(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.calls += 1
        part = {"message_id": b64_to_dict(body)["message_id"]}
        try:
            while not self._never.wait(PAUSE):
                channel.answer(part, channel.reply())
        except ReaderGoneError as error:
            self.told = error
            raise

    def is_done(self) -> bool:
        session = self.consumers["c"].consumer.session
        return session is not None and session.settlement.unsettled_count() == 0


def test_when_a_stream_is_closed_and_not_before(
    make_connector: MakeConnector, client: RequestClient
) -> None:
    service = make_connector(Endless)
    assert isinstance(service, Endless)
    consume(service, service.parts, ack="on_success")
    with client.stream(RequestSpec("q", {"a": 1}, timeout=120)) as parts:
        for _ in range(MANY):
            next(parts)
        assert service.told is None
    eventually(lambda: service.told is not None, what="the callback is told")
    eventually(service.is_done, what="the request is done")
    assert service.calls == 1


def test_when_a_requester_with_direct_reply_to_is_gone(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    service = make_connector(Endless)
    assert isinstance(service, Endless)
    consume(service, service.parts)
    received: list[bytes] = []
    channel.basic_consume(
        DIRECT_REPLY_TO, lambda _c, _m, _p, body: received.append(body), auto_ack=True
    )
    properties = BasicProperties(reply_to=DIRECT_REPLY_TO)
    channel.basic_publish("", "q", dict_to_b64({"message_id": "m"}), properties)

    def many() -> bool:
        channel.connection.process_data_events(0.05)
        return len(received) >= MANY

    eventually(many, what="the parts come")
    assert service.told is None
    channel.close()
    eventually(lambda: service.told is not None, what="the callback is told")
