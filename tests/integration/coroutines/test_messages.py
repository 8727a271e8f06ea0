"""Coroutines that take an aio-pika message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import Any

import aio_pika
import pytest
from aiormq import exceptions as aiormq_errors
from aiormq import spec
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import ExponentialBackoff, Retry
from tests.integration.conftest import MakeConnector, Seen, messages_in, run
from tests.support.polling import eventually

Message = aio_pika.abc.AbstractIncomingMessage
Handle = Callable[[Message], Awaitable[Any]]
AT_ONCE = Retry(backoff=ExponentialBackoff(first=0.01))


class Post:
    """Hand one message to a coroutine, and tell what it returned."""

    def __init__(self, channel: BlockingChannel, make_connector: MakeConnector) -> None:
        self.channel = channel
        self.connector = make_connector()
        self.seen = Seen()
        self._handle: Handle | None = None
        self._result: Future[Any] = Future()

    def consume(self, **options: Any) -> None:
        self.connector.register_consumer(
            "c",
            self.connector.vhost,
            "q",
            self._take,
            self.seen.on_error,
            **{"durable": True, "retry": AT_ONCE, **options},
        )
        run(self.connector)

    async def _take(self, message: Message) -> None:
        assert self._handle is not None
        try:
            result = await self._handle(message)
        except BaseException as error:
            if not self._result.done():
                self._result.set_exception(error)
            raise
        if not self._result.done():
            self._result.set_result(result)

    def deliver(
        self, handle: Handle, body: bytes = b"body", properties: BasicProperties | None = None
    ) -> Any:
        self._handle, self._result = handle, Future()
        self.channel.basic_publish("", "q", body, properties)
        return self._result.result(120)


@pytest.fixture
def post(channel: BlockingChannel, make_connector: MakeConnector) -> Iterator[Post]:
    post = Post(channel, make_connector)
    channel.queue_declare("q", durable=True)
    yield post
    post.connector.stop()


def test_a_message_has_everything_that_came(post: Post) -> None:
    post.consume()
    at = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
    properties = BasicProperties(
        app_id="app",
        content_encoding="utf-8",
        content_type="text/plain",
        correlation_id="7",
        delivery_mode=2,
        expiration="60000",
        headers={"a": 1, "b": ["x", {"c": True}], "d": None},
        message_id="m",
        priority=3,
        reply_to="somewhere",
        timestamp=int(at.timestamp()),
        type="kind",
    )

    async def look(message: Message) -> dict[str, Any]:
        assert isinstance(message, aio_pika.IncomingMessage)
        assert message.body == b"body"
        assert message.properties.correlation_id == "7"
        assert message.channel.connection is not None
        return dict(message.info())

    info = post.deliver(look, properties=properties)
    assert info.pop("consumer_tag")
    assert info == {
        "app_id": "app",
        "body_size": 4,
        "cluster_id": None,
        "content_encoding": "utf-8",
        "content_type": "text/plain",
        "correlation_id": "7",
        "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
        "delivery_tag": 1,
        "exchange": "",
        "expiration": 60.0,
        "headers": {"a": 1, "b": ["x", {"c": True}], "d": None},
        "message_id": "m",
        "priority": 3,
        "redelivered": False,
        "reply_to": "somewhere",
        "routing_key": "q",
        "timestamp": at,
        "type": "kind",
        "user_id": None,
    }


@pytest.mark.parametrize(
    "properties",
    [
        BasicProperties(timestamp=2**62),
        BasicProperties(delivery_mode=7),
        BasicProperties(headers={"": ""}),
        None,
    ],
    ids=["no date", "no mode", "no name", "nothing"],
)
def test_what_makes_no_sense_keeps_no_message_from_being_handled(
    post: Post, properties: BasicProperties | None
) -> None:
    post.consume()

    async def body(message: Message) -> bytes:
        return message.body

    assert post.deliver(body, properties=properties) == b"body"
    assert not post.seen.errors


@pytest.mark.parametrize("ack", ["manual", "on_success", "on_receipt"])
@pytest.mark.parametrize("form", ["ack", "process"])
def test_a_message_may_be_acknowledged_in_every_mode(post: Post, ack: str, form: str) -> None:
    post.consume(ack=ack)

    async def acknowledge(message: Message) -> None:
        if form == "ack":
            await message.ack()
            return
        async with message.process():
            await asyncio.sleep(0)

    post.deliver(acknowledge)
    eventually(lambda: post.connector.health().consumers["c"].handled == 1)
    post.connector.stop()
    assert messages_in(post.channel, "q") == 0
    assert not post.seen.errors


def test_what_fails_inside_of_process_is_rejected_as_that_says(post: Post) -> None:
    post.channel.queue_declare("rejected", durable=True)
    post.channel.queue_delete("q")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "rejected"}
    post.consume(ack="manual", arguments=arguments)

    async def fail(message: Message) -> None:
        async with message.process(requeue=False):
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        post.deliver(fail)
    eventually(lambda: messages_in(post.channel, "rejected") == 1)
    eventually(lambda: [str(error) for error in post.seen.errors] == ["boom"])
    post.connector.stop()
    assert messages_in(post.channel, "q") == 0


@pytest.mark.parametrize("verdict", ["nack", "reject", "process"])
def test_a_message_that_is_given_back_comes_again(post: Post, verdict: str) -> None:
    post.consume(ack="manual")
    came: list[bool | None] = []

    async def give_back_once(message: Message) -> None:
        came.append(message.redelivered)
        if message.redelivered:
            await message.ack()
        elif verdict == "nack":
            await message.nack(requeue=True)
        elif verdict == "reject":
            await message.reject(requeue=True)
        else:
            async with message.process(requeue=True, ignore_processed=True):
                raise ValueError("once")

    if verdict == "process":
        with pytest.raises(ValueError, match="once"):
            post.deliver(give_back_once)
    else:
        post.deliver(give_back_once)
    eventually(lambda: came == [False, True])


def test_a_message_is_answered_through_its_channel(post: Post) -> None:
    post.consume(ack="on_success")

    async def answer(message: Message) -> int:
        its: Any = message.channel
        declared = await its.queue_declare("reply", durable=True)
        await its.exchange_declare("x", exchange_type="topic")
        await its.queue_bind("reply", "x", "a.*")
        properties = spec.Basic.Properties(correlation_id=message.correlation_id, message_type="t")
        confirmed = await its.basic_publish(
            b"answer", routing_key=message.reply_to or "", properties=properties, timeout=30
        )
        assert isinstance(confirmed, spec.Basic.Ack)
        await its.basic_publish(b"another", exchange="x", routing_key="a.b")
        assert isinstance(declared, spec.Queue.DeclareOk)
        got = await its.basic_get("reply", no_ack=True)
        assert (got.body, got.header.properties.correlation_id) == (b"answer", "7")
        deleted = await its.queue_delete("reply")
        empty = await its.basic_get("q", no_ack=True)
        assert isinstance(empty.delivery, spec.Basic.GetEmpty)
        return int(deleted.message_count)

    properties = BasicProperties(correlation_id="7", reply_to="reply")
    assert post.deliver(answer, properties=properties) == 1


def test_what_the_broker_refuses_is_raised_as_aiormq_does(post: Post) -> None:
    post.consume(ack="on_success")

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

    post.deliver(ask)
    eventually(lambda: post.connector.health().consumers["c"].handled == 1)
    assert not post.seen.errors
