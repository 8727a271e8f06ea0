"""Publishes that the broker refuses: their senders are told why, and others do not suffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import AsyncMQConnector, MQConnector, create_mq_callback
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import PublishBatchError, PublishRefusedError, RemoteError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.testing.embedded import publishing as embedded_publishing
from neon_mq_connector.testing.running import RunningBroker
from tests.integration.conftest import MakeConnector, consume, messages_in, put
from tests.support.polling import eventually
from tests.support.publishing import submit

Permit = Callable[[str], None]


@pytest.fixture
def may_write(
    broker: RunningBroker, vhost: str, connection_params: pika.ConnectionParameters
) -> Permit:
    """Change which exchanges the test's user may write to."""

    def permit(pattern: str) -> None:
        user = connection_params.credentials
        assert isinstance(user, pika.PlainCredentials)
        assert user.username is not None
        broker.management.permit(user.username, vhost, write=pattern)

    return permit


@pytest.mark.parametrize("exchange", ["", "closed"], ids=["default", "named"])
def test_what_the_user_may_not_write_is_refused_and_costs_no_other(
    exchange: str, may_write: Permit, connections: Connections, channel: BlockingChannel
) -> None:
    channel.exchange_declare("open", "fanout")
    channel.exchange_declare("closed", "fanout")
    channel.queue_declare("q")
    channel.queue_bind("q", "open")
    may_write("^open$")
    publisher = connections.publisher
    publisher.publish(Message("open", "", b"", BasicProperties()), timeout=120)
    sent = [
        submit(publisher, Message(each, "q", b"", BasicProperties()), timeout=120)
        for each in ("open", exchange, exchange, *["open"] * 20)
    ]
    for future in (sent.pop(1), sent.pop(1)):
        with pytest.raises(PublishRefusedError, match=exchange or "amq.default") as caught:
            future.result(120)
        assert not caught.value.may_have_arrived
    for future in sent[1:]:  # sent after them
        future.result(120)
    eventually(lambda: messages_in(channel, "q") == 22)


@pytest.mark.embedded_broker
@pytest.mark.parametrize(
    "ask",
    [
        lambda host: host.send_message({"n": 1}, queue="q"),
        lambda host: host.submit_message({"n": 1}, queue="q").result(120),
        lambda host: host.request({"n": 1}, "q"),
        lambda host: host.submit_request({"n": 1}, "q").result(120),
        lambda host: list(host.stream({"n": 1}, "q")),
    ],
    ids=["send_message", "submit_message", "request", "submit_request", "stream"],
)
def test_the_error_says_how_to_grant_what_is_missing(
    ask: Callable[[MQConnector], Any], may_write: Permit, make_connector: MakeConnector
) -> None:
    may_write("^$")
    with pytest.raises(PublishRefusedError, match=r"set_permissions .* matches 'amq\.default'"):
        ask(make_connector())


@pytest.mark.embedded_broker
def test_each_of_many_messages_is_refused(may_write: Permit, make_connector: MakeConnector) -> None:
    may_write("^$")
    with pytest.raises(PublishBatchError) as caught:
        make_connector().publish_many(({"n": n} for n in range(3)), queue="q")
    assert {type(each) for each in caught.value.failures.values()} == {PublishRefusedError}


@pytest.mark.embedded_broker
def test_coroutines_are_told_the_same(
    may_write: Permit, mq_config: dict[str, Any], vhost: str
) -> None:
    async def ask() -> None:
        async with AsyncMQConnector(mq_config, "test_service") as host:
            host.vhost = vhost
            for sending in (
                host.send_message({"n": 1}, queue="q"),
                host.request({"n": 1}, "q"),
            ):
                with pytest.raises(PublishRefusedError, match="set_permissions"):
                    await sending

    may_write("^$")
    asyncio.run(ask())


@pytest.mark.embedded_broker
def test_a_message_whose_callback_may_not_publish_is_parked_at_once(
    may_write: Permit,
    make_connector: MakeConnector,
    channel: BlockingChannel,
    engine: dict[str, Any],
) -> None:
    calls: list[bytes] = []

    def publish(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        calls.append(body)
        channel.basic_publish("closed", "", b"")
        channel.basic_ack(method.delivery_tag)

    channel.exchange_declare("closed", "fanout")
    may_write(r"^amq\.default$")
    service = make_connector()
    consume(service, publish, lambda *_: None, auto_ack=False, durable=True, **engine)
    put(channel, "q", b"one")
    eventually(lambda: service.health().consumers["c"].parked == 1)
    assert calls == [b"one"]


class Generous(MQConnector):
    """Answers more than the broker takes."""

    calls = 0

    @create_mq_callback()
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {"text": "x" * body["size"]}


@pytest.mark.embedded_broker
def test_a_caller_is_told_that_the_answer_is_too_large(
    make_connector: MakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_publishing, "MAX_BODY", 10_000)
    service = make_connector(Generous)
    assert isinstance(service, Generous)
    consume(service, service.answer, ack="on_success")
    with pytest.raises(RemoteError, match="larger than") as caught:
        service.request({"size": 20_000}, "q")
    assert caught.value.type == "PublishRefusedError"
    assert service.calls == 1
    assert len(service.request({"size": 5_000}, "q")["text"]) == 5_000
