"""Messages that coroutines send, each confirmed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.errors import MQError, PublishRejectedError, UnroutableError
from neon_mq_connector.publishing import unconfirmed as unconfirmed_module
from tests.integration.awaiting.conftest import own_threads, running
from tests.integration.conftest import messages_in
from tests.support.loops import ON_BOTH_LOOPS, Heartbeat, eventually_true

MakeAsync = Callable[..., Any]


async def test_where_the_publisher_has_no_room_it_is_awaited(
    make_async: MakeAsync,
    channel: BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unconfirmed_module, "MAX_UNCONFIRMED", 4)

    async with running(make_async()) as host, Heartbeat() as heartbeat:
        sends = (host.send_message({"n": n}, queue="q") for n in range(300))
        ids = await asyncio.gather(*sends)
        assert len(set(ids)) == 300
        assert messages_in(channel, "q") == 300
        assert heartbeat.beats


@ON_BOTH_LOOPS
async def test_sends_that_are_cancelled_leave_the_books_right(make_async: MakeAsync) -> None:
    async with running(make_async()) as host:
        chance = random.Random(3)
        await host.send_message({"n": 0}, queue="q")
        publisher = host._mq_core.hosts.connections(host.vhost).publisher
        for _round in range(10):
            tasks = [
                asyncio.create_task(host.send_message({"n": n}, queue="q")) for n in range(200)
            ]
            for task in tasks:
                if chance.random() < 0.6:
                    asyncio.get_running_loop().call_later(chance.random() / 50, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, (str, asyncio.CancelledError)) for each in outcomes)
        await eventually_true(lambda: publisher.unconfirmed == 0)
    assert own_threads(host) == []


async def test_the_first_message_may_be_cancelled_at_any_moment(make_async: MakeAsync) -> None:
    for delay in (0, 0.001, 0.01, 0.03):
        host = make_async()
        sending = asyncio.create_task(host.send_message({"n": 1}, queue="q"))
        await asyncio.sleep(delay)
        sending.cancel()
        await asyncio.wait([sending])
        await host.send_message({"n": 2}, queue="q")
        await host.stop()
        assert own_threads(host) == []


async def test_what_the_broker_does_not_take_is_said(
    make_async: MakeAsync, channel: BlockingChannel
) -> None:
    channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})

    async with running(make_async()) as host:
        await host.send_message({"n": 1}, queue="full")
        with pytest.raises(PublishRejectedError):
            await host.send_message({"n": 2}, queue="full")
        with pytest.raises(UnroutableError):
            await host.send_message({"n": 1}, queue="amq.nobody")
        with pytest.raises(MQError, match="mine"):
            await host.send_message({"n": 1}, exchange="amq.mine", queue="q")
        with pytest.raises(TypeError):
            await host.send_message("text", queue="q")
        with pytest.raises(ValueError, match="empty"):
            await host.send_message({}, queue="q")
        with pytest.raises(ValueError, match="empty"):
            await host.send_message({"n": 1})
        await host.send_message({"n": 1}, queue="q")
        assert await host.publish_message({"n": 1}, "news")
