"""What a call that returned has brought into a queue, and what it says when it has not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import AsyncMQConnector, MQConnector, create_mq_callback
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQError, PublishRefusedError, RemoteError, UnroutableError
from neon_mq_connector.publishing.message import Message
from neon_mq_connector.testing.embedded import publishing as embedded_publishing
from neon_mq_connector.testing.running import RunningBroker
from tests.integration.conftest import MakeConnector, Seen, consume, messages_in, put
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


@pytest.mark.parametrize(
    "exchange, body, properties, reason",
    [
        ("", b"", {}, "amq.default"),
        ("closed", b"", {}, "closed"),
        ("open", bytes(16 * 2**20 + 1), {}, "larger than"),
        ("open", b"", {"user_id": "another"}, "user_id"),
    ],
    ids=["default exchange", "named exchange", "too large", "of another user"],
)
def test_what_the_broker_refuses_is_told_why_and_costs_no_other(
    exchange: str,
    body: bytes,
    properties: dict[str, Any],
    reason: str,
    may_write: Permit,
    connections: Connections,
    channel: BlockingChannel,
) -> None:
    channel.exchange_declare("open", "fanout")
    channel.exchange_declare("closed", "fanout")
    channel.queue_declare("q")
    channel.queue_bind("q", "open")
    may_write("^open$")
    publisher = connections.publisher
    good = Message("open", "", b"", BasicProperties())
    refused = Message(exchange, "q", body, BasicProperties(**properties))
    publisher.publish(good, timeout=120)
    sent = [submit(publisher, each, timeout=120) for each in (good, refused, refused, *[good] * 20)]
    for future in (sent.pop(1), sent.pop(1)):
        with pytest.raises(PublishRefusedError, match=reason) as caught:
            future.result(120)
        assert not caught.value.may_have_arrived
    for future in sent[1:]:  # sent after them
        future.result(120)
    eventually(lambda: messages_in(channel, "q") == 22)


async def send_as_coroutine(host: MQConnector) -> None:
    async with AsyncMQConnector(host.config, "test_service") as waiting:
        await waiting.send_message({"n": 1}, vhost=host.vhost, queue="q")


@pytest.mark.embedded_broker
@pytest.mark.parametrize(
    "ask",
    [
        lambda host: host.send_message({"n": 1}, queue="q"),
        lambda host: host.submit_message({"n": 1}, queue="q").result(120),
        lambda host: host.request({"n": 1}, "q"),
        lambda host: host.submit_request({"n": 1}, "q").result(120),
        lambda host: list(host.stream({"n": 1}, "q")),
        lambda host: asyncio.run(send_as_coroutine(host)),
    ],
    ids=["send_message", "submit_message", "request", "submit_request", "stream", "coroutine"],
)
def test_the_error_says_how_to_grant_what_is_missing(
    ask: Callable[[MQConnector], Any], may_write: Permit, make_connector: MakeConnector
) -> None:
    may_write("^$")
    with pytest.raises(PublishRefusedError, match=r"set_permissions .* matches 'amq\.default'"):
        ask(make_connector())


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


def message(body: bytes = b"body", queue: str = "q") -> Message:
    return Message("", queue, body, BasicProperties(), mandatory=True)


def test_a_queue_that_is_missing_is_said_by_its_name(connections: Connections) -> None:
    with pytest.raises(UnroutableError, match="'missing'") as caught:
        connections.publisher.publish(message(queue="missing"), timeout=120)
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize("delay", [0.0, 0.03])
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
