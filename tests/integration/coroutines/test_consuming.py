"""Coroutine functions beside functions: what runs, how much of it at a time, and what fails."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import ExponentialBackoff, Retry
from neon_mq_connector.aio.consumer import AsyncConsumer
from neon_mq_connector.consumers import BlockingConsumerThread, SelectConsumerThread
from tests.integration.conftest import (
    MakeConnector,
    Seen,
    complaint,
    consume,
    messages_in,
    numbered,
    put,
    run,
    watch_over,
)
from tests.support.polling import eventually

AT_ONCE = Retry(backoff=ExponentialBackoff(first=0.01))


class Crowd:
    """Coroutines that stay until they may go, and how many there were at a time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.gone: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.may_go = threading.Event()

    async def stay(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            while not self.may_go.is_set():
                await asyncio.sleep(0.02)
            self.gone.append(body)
        except asyncio.CancelledError:
            self.cancelled.append(body)
            raise
        finally:
            self.inside -= 1


def test_as_many_coroutines_run_at_a_time_as_messages_are_sent_ahead(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    crowd = Crowd()
    put(channel, "q", *numbered(30))
    connector = consume(
        make_connector(), crowd.stay, ack="on_success", prefetch_count=20, durable=True
    )
    eventually(lambda: crowd.inside == 20)
    assert connector.health().consumers["c"].running == 20
    crowd.may_go.set()
    eventually(lambda: len(crowd.gone) == 30)
    assert crowd.most == 20
    connector.stop()
    assert messages_in(channel, "q") == 0


# -- what fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError("boom")], ids=repr)
def test_what_a_coroutine_raises_counts_as_failed_and_is_tried_again_and_parked(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen, error: BaseException
) -> None:
    tries: list[bytes] = []

    async def fail_on_bad(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        await asyncio.sleep(0)
        if body == b"bad":
            tries.append(body)
            raise error
        seen(channel, method, properties, body)

    put(channel, "q", b"bad", *numbered(5))
    channel.queue_declare("q.dead", durable=True, arguments={"x-max-length": 10_000})
    connector = consume(
        make_connector(), fail_on_bad, seen.on_error, ack="on_success", retry=AT_ONCE, durable=True
    )
    assert sorted(seen.wait_for(5)) == numbered(5)
    eventually(lambda: messages_in(channel, "q.dead") == 1)
    assert len(tries) == 3
    assert seen.errors == [error] * 3
    assert connector.check_health()

    def counts() -> tuple[int, int, int]:
        health = connector.health().consumers["c"]
        return health.handled, health.failed, health.parked

    eventually(lambda: counts() == (5, 3, 1))
    connector.stop()
    assert messages_in(channel, "q") == 0


def test_a_coroutine_may_be_what_is_told_of_errors_those_at_the_end_included(
    make_connector: MakeConnector, channel: BlockingChannel
) -> None:
    told: list[Any] = []
    entered, release = threading.Event(), threading.Event()

    async def fail_at_last(*_: Any) -> None:
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        raise ValueError("boom")

    async def on_error(thread: Any, error: BaseException) -> None:
        await asyncio.sleep(0.05)
        told.append((thread.name, str(error), asyncio.current_task() is not None))
        raise RuntimeError("the handler fails too")

    put(channel, "q", b"1")
    connector = consume(make_connector(), fail_at_last, on_error, durable=True)
    assert entered.wait(120)
    stopping = threading.Thread(target=connector.stop)
    stopping.start()
    release.set()
    stopping.join(120)
    assert told == [("c", "boom", True)]


def test_a_function_that_returns_a_coroutine_has_failed(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen
) -> None:
    async def handle(*_: Any) -> None: ...

    put(channel, "q", b"1")
    consume(make_connector(), lambda *given: handle(*given), seen.on_error, durable=True)
    eventually(lambda: seen.errors)
    assert "without awaiting it" in str(seen.errors[0])
    assert "async def" in str(seen.errors[0])


# -- what holds up the loop --------------------------------------------------------------------


def test_callbacks_that_block_cost_nobody_the_connection_and_a_coroutine_is_named(
    make_connector: MakeConnector,
    channel: BlockingChannel,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, blocked = threading.Event(), threading.Event()

    async def blocks_the_loop(channel: Any, method: Any, *_: Any) -> None:
        blocked.set()
        release.wait(150.0)
        channel.basic_ack(method.delivery_tag)

    def blocks(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        release.wait(150.0)
        slow(channel, method, properties, body)
        channel.basic_ack(method.delivery_tag)

    slow = Seen()
    connector = make_connector(heartbeat=2)
    vhost = connector.vhost
    connector.register_consumer("f", vhost, "functions", seen, durable=True)
    connector.register_consumer("s", vhost, "slow", blocks, auto_ack=False, durable=True)
    connector.register_consumer("c", vhost, "q", blocks_the_loop, auto_ack=False, durable=True)
    run(connector)
    put(channel, "q", b"1")
    put(channel, "slow", b"1")
    assert blocked.wait(120)
    watch = watch_over(connector)
    began = time.monotonic()
    for number in range(3):
        put(channel, "functions", b"%d" % number)
        seen.wait_for(number + 1)
        eventually(lambda: time.monotonic() > began + 2 * (number + 1))  # noqa: B023
        watch.look()
    told = watch.complaints["c"]
    assert "mq-asyncio:test_service is held up by" in told
    assert "blocks_the_loop of queue 'q'" in told
    assert "f" not in watch.complaints
    assert not watch.stuck, "so far it may be no more than slow"
    monkeypatch.setattr("neon_mq_connector.service.liveness._LONGEST_LOOK", 3.0)
    watch.look()
    assert set(watch.stuck) == {"c"}
    stack = connector.health(stacks=True).consumers["c"].oldest_callback_stack or ""
    assert "release.wait(150.0)" in stack
    release.set()
    eventually(lambda: connector.health().consumers["c"].handled == 1)

    eventually(lambda: not complaint(watch))
    assert slow.wait_for(1) == [b"1"]
    assert all(each.connects == 1 for each in connector.health().connections)
    connector.stop()
    assert messages_in(channel, "q") == messages_in(channel, "slow") == 0


# -- registering -------------------------------------------------------------------------------


async def four(channel: Any, method: Any, properties: Any, body: bytes) -> None: ...


async def one(message: Any) -> None: ...


async def on_error(thread: Any, error: BaseException) -> None: ...


def function(channel: Any, method: Any, properties: Any, body: bytes) -> None: ...


def test_the_engine_is_chosen_by_what_the_callback_is_or_by_the_environment(
    make_connector: MakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make_connector()

    def engine(callback: Any, **options: Any) -> type:
        connector.register_consumer("c", connector.vhost, "q", callback, **options)
        return type(connector.consumers["c"])

    for callback in (four, one):
        assert engine(callback) is AsyncConsumer
        assert engine(callback, async_consumer=True) is AsyncConsumer
    for flag, kind in (("false", BlockingConsumerThread), ("true", SelectConsumerThread)):
        connector.async_consumers_enabled = flag == "false"
        monkeypatch.setenv("MQ_ASYNC_CONSUMERS", flag)
        assert engine(function) is kind
    assert engine(function, async_consumer=False) is BlockingConsumerThread


@pytest.mark.parametrize(
    "callback, options, words",
    [
        (four, {"async_consumer": False}, "four is a coroutine function"),
        (function, {"on_error": on_error}, "on_error on_error is a coroutine function"),
    ],
    ids=["threaded", "only on_error"],
)
def test_what_cannot_be_run_is_refused_when_it_is_registered(
    make_connector: MakeConnector, callback: Any, options: dict[str, Any], words: str
) -> None:
    connector = make_connector()
    with pytest.raises(TypeError) as caught:
        connector.register_consumer("c", connector.vhost, "the_queue", callback, **options)
    assert words in str(caught.value)
    assert "queue 'the_queue'" in str(caught.value)
    assert "c" not in connector.consumers


def test_without_aio_pika_four_arguments_work_and_a_message_says_what_to_install(
    make_connector: MakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("neon_mq_connector.aio.messa")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "aio_pika", None)
    connector = make_connector()
    connector.register_consumer("four", connector.vhost, "q", four)
    with pytest.raises(ImportError, match=r"pip install neon-mq-connector\[aio\]"):
        connector.register_consumer("one", connector.vhost, "q", one)


# -- its life ----------------------------------------------------------------------------------


def test_a_consumer_that_was_built_directly_has_a_loop_of_its_own(
    connection_params: Any, channel: BlockingChannel, seen: Seen
) -> None:
    async def handle(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        seen(channel, method, properties, body)
        channel.basic_ack(method.delivery_tag)

    consumer = AsyncConsumer(connection_params, "q", handle, seen.on_error, False, name="direct")
    assert consumer.channel is None
    assert consumer.is_consumer_alive
    assert not consumer.is_consuming
    consumer.start()
    assert consumer._consumer_started.wait(120)
    assert consumer.is_consuming
    put(channel, "q", b"1", b"2", declare=False)
    seen.wait_for(2)
    assert "mq-asyncio:direct" in [each.name for each in threading.enumerate()]
    consumer.join(120)
    consumer.join(120)
    assert not consumer.is_alive()
    assert not consumer.is_consumer_alive
    assert consumer.channel is not None
    assert consumer.channel.is_closed
    assert not seen.errors
    channel.queue_delete("q")
    with pytest.raises(TypeError, match="no coroutine function"):
        AsyncConsumer(connection_params, "q", function)
