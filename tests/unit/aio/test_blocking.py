"""Calls that block, made on threads of our own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from neon_mq_connector.aio.blocking import BlockingCalls, wait_for, wait_until_done
from neon_mq_connector.errors import WaitTimeoutError
from tests.support.loops import eventually_true
from tests.support.polling import eventually


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
    calls = BlockingCalls("mq-await:test")
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
    assert not await wait_until_done(calls.threads, 0.05)
    assert late.undone == work.undone == []
    late.go_on.set()
    work.go_on.set()
    await eventually_true(lambda: len(late.undone) == len(late.begun))
    await eventually_true(lambda: work.undone == ["made"])
    assert await wait_until_done(calls.threads, 120.0)


async def test_who_is_cancelled_with_the_result_at_the_door_has_it_undone() -> None:
    calls = BlockingCalls("mq-await:test")
    work = Work()
    running = asyncio.create_task(
        calls.run(work, timeout=120, what="working", undo=work.undone.append)
    )
    await eventually_true(lambda: work.begun)
    work.go_on.set()
    # the loop is held up: the task has not come to look at its result
    eventually(lambda: not any(thread.is_busy for thread in calls.threads))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually_true(lambda: work.undone == ["made"])


async def test_a_call_that_several_wait_for_is_made_once_and_outlives_those_who_give_up() -> None:
    calls = BlockingCalls("mq-await:test")
    go_on = threading.Event()
    made: list[int] = []

    def work() -> None:
        go_on.wait(120.0)
        made.append(1)
        raise LookupError

    future = calls.submit(work)

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
    calls = BlockingCalls("mq-await:test", 1)
    go_on = threading.Event()
    done: list[int] = []
    first = asyncio.create_task(calls.run(lambda: go_on.wait(120.0), timeout=120, what="x"))
    await asyncio.sleep(0)
    second = asyncio.create_task(calls.run(lambda: done.append(2), timeout=120, what="x"))
    third = asyncio.create_task(calls.run(lambda: done.append(3), timeout=120, what="x"))
    await asyncio.sleep(0)
    fourth = asyncio.create_task(wait_for(calls.submit(lambda: done.append(4)), 120, "x"))
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
        calls = BlockingCalls("mq-await:test")
        running = asyncio.create_task(
            calls.run(work, timeout=120, what="working", undo=work.undone.append)
        )
        await eventually_true(lambda: work.begun)
        running.cancel()

    asyncio.run(main())
    work.go_on.set()
    eventually(lambda: work.undone == ["made"])
