"""Stopping while coroutines run: they may end, then they are cancelled, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import AckMode
from tests.integration.conftest import (
    MakeConnector,
    Seen,
    consume,
    messages_in,
    numbered,
    put,
)
from tests.integration.coroutines.test_consuming import Crowd
from tests.support.polling import eventually

MANY = 40


@pytest.mark.parametrize("ack", [AckMode.ON_RECEIPT, AckMode.MANUAL])
def test_coroutines_that_do_not_end_are_cancelled_and_their_messages_go_back_or_are_parked(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen, ack: AckMode
) -> None:
    crowd = Crowd()
    put(channel, "q", *numbered(MANY + 30))
    connector = consume(
        make_connector(stop_timeout=6.0 if ack is AckMode.ON_RECEIPT else 1.0),
        crowd.stay,
        seen.on_error,
        ack=ack,
        prefetch_count=MANY,
        concurrency=MANY,
        durable=True,
    )
    eventually(lambda: crowd.inside == MANY)
    connector.stop()
    eventually(lambda: len(crowd.cancelled) == MANY)
    eventually(lambda: crowd.inside == 0)
    if ack is AckMode.ON_RECEIPT:
        eventually(lambda: messages_in(channel, "q.dead") == MANY)
        eventually(lambda: messages_in(channel, "q") == 30)
        return
    assert not seen.errors
    eventually(lambda: messages_in(channel, "q") == MANY + 30)
    assert connector.health().consumers["c"].failed == 0


@pytest.mark.parametrize("how", ["is not cancelled", "blocks the loop"])
def test_a_coroutine_that_does_not_end_does_not_hold_up_the_stop(
    make_connector: MakeConnector,
    channel: BlockingChannel,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    entered, may_go = threading.Event(), threading.Event()

    async def stays(*_: Any) -> None:
        entered.set()
        if how == "blocks the loop":
            may_go.wait(600.0)
        while not may_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    put(channel, "q", b"1")
    connector = consume(make_connector(stop_timeout=1.0), stays, ack="on_success", durable=True)
    assert entered.wait(120)
    connector.stop()
    eventually(lambda: messages_in(channel, "q") == 1)
    if how == "is not cancelled":
        eventually(lambda: "did not end when it was cancelled" in caplog.text)
        assert "stays of queue 'q'" in caplog.text
    may_go.set()


@pytest.mark.parametrize("ends_well", [True, False])
def test_what_a_cancelled_coroutine_still_does_is_done(
    make_connector: MakeConnector, channel: BlockingChannel, ends_well: bool
) -> None:
    entered = threading.Event()

    async def says_good_bye(channel: Any, *_: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await channel.basic_publish("", "good-byes", b"good-bye")
            if not ends_well:
                raise

    channel.queue_declare("good-byes", durable=True)
    put(channel, "q", b"1")
    connector = consume(
        make_connector(stop_timeout=3.0), says_good_bye, ack="on_success", durable=True
    )
    assert entered.wait(120)
    connector.stop()
    eventually(lambda: messages_in(channel, "good-byes") == 1)
    eventually(lambda: messages_in(channel, "q") == (0 if ends_well else 1))


@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_a_coroutine_can_stop_its_own_connector(
    make_connector: MakeConnector, channel: BlockingChannel, seen: Seen, where: str
) -> None:
    connector = make_connector()

    async def stop(*arguments: Any) -> None:
        if where == "on the loop":
            connector.stop()
        else:
            await asyncio.to_thread(connector.stop)
        seen(*arguments)

    put(channel, "q", *numbered(5))
    consume(connector, stop, seen.on_error, ack="on_success", concurrency=1, durable=True)
    eventually(lambda: not connector.consumers["c"].is_alive())
    assert seen.bodies == [b"0"]
    assert not seen.errors
    eventually(lambda: messages_in(channel, "q") == 4)
    eventually(
        lambda: "mq-asyncio:test_service" not in [each.name for each in threading.enumerate()]
    )
