"""Coroutines that take an aio-pika message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import aio_pika
import pytest
from aiormq import exceptions as aiormq_errors
from aiormq import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import ExponentialBackoff, Retry
from tests.integration.conftest import MakeConnector, messages_in
from tests.integration.stage import Stage
from tests.support.polling import eventually

pytestmark = pytest.mark.embedded_broker

Message = aio_pika.abc.AbstractIncomingMessage
Consume = Callable[..., Stage]
AT_ONCE = Retry(backoff=ExponentialBackoff(first=0.01))


@pytest.fixture
def consume(channel: BlockingChannel, make_connector: MakeConnector) -> Consume:
    """Run a consumer that is handed messages."""
    return lambda **more: Stage(channel, make_connector(), "message", **{"retry": AT_ONCE, **more})


def test_a_message_has_everything_that_came(consume: Consume) -> None:
    stage = consume()
    at = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
    sent: dict[str, Any] = {
        "app_id": "app",
        "content_encoding": "utf-8",
        "content_type": "text/plain",
        "correlation_id": "7",
        "headers": {"a": 1, "b": ["x", {"c": True}], "d": None},
        "message_id": "m",
        "priority": 3,
        "reply_to": "somewhere",
        "type": "kind",
    }
    as_numbers = {"delivery_mode": 2, "expiration": "60000", "timestamp": int(at.timestamp())}

    async def look(message: Message) -> dict[str, Any]:
        assert isinstance(message, aio_pika.IncomingMessage)
        assert message.body == b"body"
        assert message.properties.correlation_id == "7"
        assert message.channel.connection is not None
        return dict(message.info())

    info = stage.play(look, b"body", BasicProperties(**sent, **as_numbers))
    assert info.pop("consumer_tag")
    assert info == {
        **sent,
        "body_size": 4,
        "cluster_id": None,
        "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
        "delivery_tag": 1,
        "exchange": "",
        "expiration": 60.0,
        "redelivered": False,
        "routing_key": "stage",
        "timestamp": at,
        "user_id": None,
    }


def test_what_makes_no_sense_keeps_no_message_from_being_handled(consume: Consume) -> None:
    stage = consume()

    async def body(message: Message) -> bytes:
        return message.body

    for nonsense in ({"timestamp": 2**62}, {"delivery_mode": 7}, {"headers": {"": ""}}, {}):
        assert stage.play(body, b"body", BasicProperties(**nonsense)) == b"body"
    assert not stage.seen.errors


@pytest.mark.parametrize(
    "ack, form",
    [("manual", "ack"), ("manual", "process"), ("on_success", "ack"), ("on_receipt", "process")],
)
def test_a_message_may_be_acknowledged_in_every_mode(consume: Consume, ack: str, form: str) -> None:
    stage = consume(ack=ack)

    async def acknowledge(message: Message) -> None:
        if form == "ack":
            await message.ack()
            return
        async with message.process():
            await asyncio.sleep(0)

    stage.play(acknowledge)
    eventually(lambda: stage.connector.health().consumers["stage"].handled == 1)
    stage.connector.stop()
    assert messages_in(stage.channel, "stage") == 0
    assert not stage.seen.errors


def test_what_fails_inside_of_process_is_rejected_as_that_says(
    consume: Consume, channel: BlockingChannel
) -> None:
    channel.queue_declare("rejected", durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "rejected"}
    stage = consume(ack="manual", arguments=arguments)

    async def fail(message: Message) -> None:
        async with message.process(requeue=False):
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        stage.play(fail)
    eventually(lambda: messages_in(channel, "rejected") == 1)
    eventually(lambda: [str(error) for error in stage.seen.errors] == ["boom"])
    stage.connector.stop()
    assert messages_in(channel, "stage") == 0


def test_a_message_that_is_given_back_comes_again(consume: Consume) -> None:
    stage = consume(ack="manual", concurrency=1)
    came: list[bool | None] = []

    async def give_back_once(message: Message) -> None:
        came.append(message.redelivered)
        if message.redelivered:
            await message.ack()
        elif message.body == b"process":
            async with message.process(requeue=True, ignore_processed=True):
                raise ValueError("once")
        else:
            await getattr(message, message.body.decode())(requeue=True)

    for number, verdict in enumerate((b"nack", b"reject"), 1):
        stage.play(give_back_once, verdict)
        eventually(lambda number=number: came == [False, True] * number)  # type: ignore[misc]
    with pytest.raises(ValueError, match="once"):
        stage.play(give_back_once, b"process")
    eventually(lambda: came == [False, True] * 3)


def test_a_message_is_answered_through_its_channel(consume: Consume) -> None:
    stage = consume(ack="on_success")

    async def answer(message: Message) -> int:
        its: Any = message.channel
        declared = await its.queue_declare("reply", durable=True)
        await its.exchange_declare("x", exchange_type="topic")
        await its.queue_bind("reply", "x", "a.*")
        properties = spec.Basic.Properties(correlation_id=message.correlation_id, message_type="t")
        confirmed = await its.basic_publish(
            b"answer", routing_key=message.reply_to or "", properties=properties, timeout=120
        )
        assert isinstance(confirmed, spec.Basic.Ack)
        await its.basic_publish(b"another", exchange="x", routing_key="a.b")
        assert isinstance(declared, spec.Queue.DeclareOk)
        got = await its.basic_get("reply", no_ack=True)
        assert (got.body, got.header.properties.correlation_id) == (b"answer", "7")
        deleted = await its.queue_delete("reply")
        empty = await its.basic_get("stage", no_ack=True)
        assert isinstance(empty.delivery, spec.Basic.GetEmpty)
        return int(deleted.message_count)

    properties = BasicProperties(correlation_id="7", reply_to="reply")
    assert stage.play(answer, b"go", properties) == 1


def test_what_the_broker_refuses_is_raised_as_aiormq_does(consume: Consume) -> None:
    stage = consume(ack="on_success")

    async def ask(message: Message) -> None:
        its: Any = message.channel
        with pytest.raises(aiormq_errors.ChannelNotFoundEntity):
            await its.queue_declare("missing", passive=True)
        with pytest.raises(aiormq_errors.ChannelPreconditionFailed):
            await its.exchange_declare("amq.fanout", exchange_type="direct")
        with pytest.raises(aiormq_errors.ChannelNotFoundEntity):
            await its.basic_publish(b"", exchange="missing", routing_key="x")
        with pytest.raises(aiormq_errors.PublishError):
            await its.basic_publish(b"", exchange="amq.topic", routing_key="x", mandatory=True)

    stage.play(ask)
    eventually(lambda: stage.connector.health().consumers["stage"].handled == 1)
    assert not stage.seen.errors
