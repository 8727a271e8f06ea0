"""What a coroutine does with its channel, awaited and not awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import ExponentialBackoff, Retry
from neon_mq_connector.errors import UnroutableError
from tests.integration.conftest import MakeConnector, Seen, consume, messages_in, put
from tests.integration.stage import Stage
from tests.support.polling import eventually

AT_ONCE = Retry(backoff=ExponentialBackoff(first=0.01))


@pytest.fixture
def stage(channel: BlockingChannel, make_connector: MakeConnector) -> Iterator[Stage]:
    once = Retry(attempts=1)
    stage = Stage(channel, make_connector(), "coroutine", ack="on_success", retry=once)
    yield stage

    async def alive(*_: Any) -> str:
        return "alive"

    # whatever it did, its consumer is still there
    assert stage.play(alive) == "alive"
    assert stage.connector.check_health()


# -- what is awaited ---------------------------------------------------------------------------


def test_what_was_awaited_is_in_the_queue_in_the_order_of_the_calls(
    stage: Stage, channel: BlockingChannel
) -> None:
    channel.queue_declare("answers", durable=True)

    async def publish(its: Any, _method: Any) -> int:
        # there is no connection to publish on yet: the first ones have to wait
        publishes = [its.basic_publish("", "answers", b"%d" % number) for number in range(199)]
        publishes.append(await asyncio.to_thread(its.basic_publish, "", "answers", b"199"))
        await asyncio.gather(*publishes)
        frame = await its.queue_declare("answers", passive=True)
        return int(frame.method.message_count)

    assert stage.play(publish) == 200
    assert [channel.basic_get("answers", auto_ack=True)[2] for _ in range(200)] == [
        b"%d" % number for number in range(200)
    ]


def test_what_no_queue_takes_is_raised_when_it_is_awaited_and_may_be_caught(stage: Stage) -> None:
    async def publish(its: Any, _method: Any) -> None:
        with pytest.raises(pika.exceptions.UnroutableError) as caught:
            await its.basic_publish("amq.topic", "nobody", b"", mandatory=True)
        assert isinstance(caught.value.__cause__, UnroutableError)

    stage.play(publish)
    eventually(lambda: stage.connector.health().consumers["stage"].handled == 1)
    assert not stage.seen.errors


def test_who_gives_up_waiting_leaves_the_operation_to_others(stage: Stage) -> None:
    async def declare(its: Any, _method: Any) -> str:
        operation = its.queue_declare("made", durable=True)
        waiting = asyncio.ensure_future(operation)
        await asyncio.sleep(0)
        waiting.cancel()
        return str((await operation).method.queue)

    assert stage.play(declare) == "made"


def test_the_ways_of_callbacks_for_asynchronous_connections_work_too(stage: Stage) -> None:
    async def declare(its: Any, _method: Any) -> Any:
        loop = asyncio.get_running_loop()
        declared: asyncio.Future[Any] = loop.create_future()
        its.queue_declare("made", durable=True, callback=declared.set_result)
        called: list[str] = []
        its.connection.add_callback_threadsafe(lambda: called.append("at once"))
        its.connection.call_later(0.05, lambda: called.append("later"))
        never_called = its.connection.call_later(0.05, lambda: called.append("never"))
        its.connection.remove_timeout(never_called)
        channel = its.connection.channel()
        await channel.queue_declare("another", durable=True)
        channel.close()
        assert channel.is_closed
        assert its.is_open
        frame = await declared
        while len(called) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        return frame.method.queue, called

    assert stage.play(declare) == ("made", ["at once", "later"])


# -- what is not awaited -----------------------------------------------------------------------


def test_an_ack_leaves_when_what_was_published_is_confirmed_awaited_or_not(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    async def answer(its: Any, method: Any, _properties: Any, body: bytes) -> None:
        its.basic_publish("", "answers", body)
        its.basic_ack(method.delivery_tag)

    channel.queue_declare("answers", durable=True)
    put(channel, "q", *[b"%d" % number for number in range(100)])
    connector = consume(make_connector(), answer, auto_ack=False, durable=True)
    eventually(lambda: connector.health().consumers["c"].handled == 100)
    connector.stop()
    assert messages_in(channel, "answers") == 100
    assert messages_in(channel, "q") == 0


@pytest.mark.parametrize("ack", ["manual", "on_receipt"])
def test_a_publish_that_fails_and_was_not_awaited_fails_its_message_or_is_told(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen, ack: str
) -> None:
    tries: list[int] = []

    async def answer_to_nobody(its: Any, method: Any, *_: Any) -> None:
        tries.append(1)
        its.basic_publish("amq.topic", "nobody", b"", mandatory=True)
        if ack == "manual":
            its.basic_ack(method.delivery_tag)
        if ack == "on_receipt":  # no ack waits for it
            await asyncio.sleep(0.2)

    put(channel, "q", b"1")
    connector = consume(
        make_connector(), answer_to_nobody, seen.on_error, ack=ack, retry=AT_ONCE, durable=True
    )
    if ack == "on_receipt":
        eventually(lambda: seen.errors)
        connector.stop()
        assert connector.health().consumers["c"].handled == 1
    else:
        eventually(lambda: connector.health().consumers["c"].parked == 1)
        assert messages_in(channel, "q.dead") == 1
    assert len(tries) == (1 if ack == "on_receipt" else 3)
    assert [type(error) for error in seen.errors] == [UnroutableError] * len(tries)


@pytest.mark.parametrize("awaited", ["in time", "late", "never"])
def test_a_refusal_is_logged_if_nobody_awaits_it(
    make_connector: MakeConnector,
    channel: BlockingChannel,
    caplog: pytest.LogCaptureFixture,
    awaited: str,
) -> None:
    done = threading.Semaphore(0)

    async def declares(its: Any, *_: Any) -> None:
        operation = its.exchange_declare("amq.fanout", exchange_type="direct")
        if awaited == "late":
            await asyncio.sleep(0.2)
        if awaited != "never":
            with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                await operation
        done.release()

    put(channel, "q", b"1", b"2")
    consume(make_connector(), declares, durable=True, concurrency=1)
    for _ in range(2):  # what would be told of the first has been told when the second has ended
        assert done.acquire(timeout=120)

    def told() -> list[str]:
        messages = [each.getMessage() for each in caplog.records]
        return [each for each in messages if "was not awaited" in each]

    if awaited != "never":
        assert not told()
        return
    eventually(lambda: len(told()) == 2)
    message = told()[0]
    assert "queue 'q'" in message
    assert "declares" in message
    assert "exchange_declare('amq.fanout',)" in message
    assert "406" in message


def test_it_says_what_it_does_not_do_and_what_to_use_instead(stage: Stage) -> None:
    async def consume(its: Any, _method: Any) -> None:
        with pytest.raises(NotImplementedError, match="register_consumer"):
            its.basic_consume("q", print)
        with pytest.raises(NotImplementedError, match="await basic_publish"):
            its.confirm_delivery(print)
        await its.confirm_delivery()

    stage.play(consume)
