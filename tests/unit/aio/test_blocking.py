"""Calls that block, made on threads of our own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from neon_mq_connector.aio.blocking import BlockingCalls, wait_for
from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.errors import WaitTimeoutError
from tests.support.loops import eventually_true
from tests.support.polling import eventually


def calls_of(size: int = 8) -> BlockingCalls:
    return BlockingCalls("mq-await:test", CoroutineLoop(asyncio.get_running_loop()), size)


class Work:
    """A call that goes on until the test says so, and what was undone of it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[None] = []
        self.undone: list[str] = []

    def __call__(self) -> str:
        self.begun.append(None)
        self.go_on.wait(120.0)
        return "made"


async def test_who_waits_too_long_is_told_and_what_came_of_it_is_undone() -> None:
    calls = calls_of()
    late, work = Work(), Work()
    while not late.begun:  # what has not begun in time is not made
        with pytest.raises(WaitTimeoutError, match="working: not done within"):
            await calls.run(late, timeout=0.05, what="working", undo=late.undone.append)
    cancelled = asyncio.create_task(
        calls.run(work, timeout=120, what="working", undo=work.undone.append)
    )
    await eventually_true(lambda: work.begun)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not await calls.wait_until_done(0.05)
    assert late.undone == work.undone == []
    late.go_on.set()
    work.go_on.set()
    await eventually_true(lambda: len(late.undone) == len(late.begun))
    await eventually_true(lambda: work.undone == ["made"])
    assert await calls.wait_until_done(120.0)


async def test_who_is_cancelled_with_the_result_at_the_door_has_it_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = calls_of()
    work = Work()
    running = asyncio.create_task(
        calls.run(work, timeout=120, what="working", undo=work.undone.append)
    )
    wake = LoopFuture._wake

    def wake_and_cancel(future: LoopFuture[Any]) -> None:
        wake(future)
        running.cancel()  # the task has not come to look at its result

    monkeypatch.setattr(LoopFuture, "_wake", wake_and_cancel)
    await asyncio.sleep(0)  # it waits
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually_true(lambda: work.undone == ["made"])


async def test_a_call_that_several_wait_for_is_made_once_and_outlives_those_who_give_up() -> None:
    calls = calls_of()
    go_on = threading.Event()
    made: list[int] = []

    def work() -> None:
        go_on.wait(120.0)
        made.append(1)
        raise LookupError

    future = calls.begin(work)

    def share(timeout: float) -> asyncio.Task[None]:
        return asyncio.create_task(wait_for(future, timeout, "working"))

    tasks = [share(120.0) for _ in range(5)]
    with pytest.raises(WaitTimeoutError, match="working"):
        await share(0.05)
    tasks.pop().cancel()
    await asyncio.sleep(0)
    go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcomes] == [LookupError] * 4
    assert made == [1]


async def test_what_has_not_begun_when_nobody_waits_any_more_is_not_done() -> None:
    calls = calls_of(1)
    go_on = threading.Event()
    done: list[int] = []
    first = asyncio.create_task(calls.run(lambda: go_on.wait(120.0), timeout=120, what="x"))
    await asyncio.sleep(0)
    second = asyncio.create_task(calls.run(lambda: done.append(2), timeout=120, what="x"))
    third = asyncio.create_task(calls.run(lambda: done.append(3), timeout=120, what="x"))
    await asyncio.sleep(0)
    fourth = asyncio.create_task(
        calls.run(lambda: done.append(4), timeout=120, what="x", in_any_case=True)
    )
    await asyncio.sleep(0)
    for task in (second, fourth):
        task.cancel()
    await asyncio.wait([second, fourth])
    go_on.set()
    await asyncio.gather(first, third)
    await eventually_true(lambda: done == [3, 4])


def test_what_ends_after_its_loop_is_undone_all_the_same() -> None:
    work = Work()

    async def main() -> None:
        calls = calls_of()
        running = asyncio.create_task(
            calls.run(work, timeout=120, what="working", undo=work.undone.append)
        )
        await eventually_true(lambda: work.begun)
        running.cancel()

    asyncio.run(main())
    work.go_on.set()
    eventually(lambda: work.undone == ["made"])
