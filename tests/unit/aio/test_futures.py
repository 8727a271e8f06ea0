"""What threads have for coroutines: one result, or one event after another."""

from __future__ import annotations

import asyncio
import time
from queue import Empty

import pytest

from neon_mq_connector.aio.futures import LoopFuture, LoopMailbox
from neon_mq_connector.aio.loops import CoroutineLoop


def this_loop() -> CoroutineLoop:
    return CoroutineLoop(asyncio.get_running_loop())


def soon() -> float:
    return time.monotonic() + 120.0


async def test_a_wait_for_an_event_ends_in_time_or_is_cancelled_and_loses_nothing() -> None:
    mailbox: LoopMailbox[str] = LoopMailbox(this_loop())
    with pytest.raises(Empty):
        await mailbox.get(time.monotonic() + 0.01)
    with pytest.raises(Empty):
        await mailbox.get(time.monotonic() - 1.0)
    waiting = asyncio.create_task(mailbox.get(soon()))
    await asyncio.sleep(0)
    mailbox.put_here("it")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await mailbox.get(soon()) == "it"


def test_what_comes_after_the_end_of_the_loop_is_dropped() -> None:
    async def make() -> tuple[LoopMailbox[int], LoopFuture[int]]:
        loop = this_loop()
        return LoopMailbox(loop), LoopFuture(loop)

    mailbox, future = asyncio.run(make())
    mailbox.put(1)
    assert future.resolve(1)
