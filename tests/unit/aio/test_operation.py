"""Operations that may be awaited: answered once, told once, by whomever and whenever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pika.exceptions import AMQPConnectionError

from neon_mq_connector.aio.loops import CallersLoop
from neon_mq_connector.aio.operation import DONE, Operation, Unawaited

Main = Callable[["Bench"], Coroutine[Any, Any, None]]


class Bench:
    """Operations of one callback."""

    def __init__(self) -> None:
        self.told: list[Operation] = []
        self.unawaited = Unawaited(self.told.append)
        self._loop = CallersLoop()

    def operation(self, **options: Any) -> Operation:
        return Operation(
            "asking", self._loop, options.pop("timeout", 10.0), self.unawaited, **options
        )


def run(main: Main) -> None:
    async def with_bench() -> None:
        await main(Bench())

    asyncio.run(asyncio.wait_for(with_bench(), 20.0))


def test_the_answer_may_come_before_it_is_awaited_or_after() -> None:
    async def main(it: Bench) -> None:
        before, after = it.operation(), it.operation()
        before.resolve(1)
        threading.Timer(0.05, after.resolve, (2,)).start()
        assert (await before, await after) == (1, 2)
        assert (await before, await after) == (1, 2)

    run(main)


def test_the_first_answer_counts() -> None:
    async def main(it: Bench) -> None:
        operation = it.operation()
        operation.resolve(1)
        operation.fail(ValueError("too late"))
        operation.resolve(2)
        assert await operation == 1
        it.unawaited.end()
        assert not it.told

    run(main)


def test_answers_from_many_threads_reach_all_who_wait() -> None:
    async def main(it: Bench) -> None:
        operations = [it.operation() for _ in range(200)]

        def answer() -> None:
            for number, each in enumerate(operations):
                each.resolve(number)

        async def wait(operation: Operation) -> Any:
            return await operation

        threads = [threading.Thread(target=answer) for _ in range(3)]
        for thread in threads:
            thread.start()
        answers = await asyncio.gather(*(wait(each) for each in operations * 2))
        assert answers == [*range(200)] * 2
        for thread in threads:
            thread.join()

    run(main)


def test_a_failure_is_raised_for_each_who_awaits_it_and_told_to_nobody_then() -> None:
    async def main(it: Bench) -> None:
        operation = it.operation()
        operation.fail(ValueError("boom"))
        for _ in range(2):
            with pytest.raises(ValueError, match="boom"):
                await operation
        it.unawaited.end()
        assert not it.told

    run(main)


@pytest.mark.parametrize("when", ["before the end", "after the end"])
def test_a_failure_that_nobody_awaits_is_told_once_when_the_callback_is_over(when: str) -> None:
    async def main(it: Bench) -> None:
        operation = it.operation()
        if when == "after the end":
            it.unawaited.end()
        operation.fail(ValueError("boom"))
        assert len(it.told) == (when == "after the end")
        it.unawaited.end()
        it.unawaited.end()
        assert it.told == [operation]

    run(main)


def test_who_waits_too_long_is_told_and_the_operation_goes_on() -> None:
    async def main(it: Bench) -> None:
        operation = it.operation(timeout=0.05)
        with pytest.raises(AMQPConnectionError, match=r"asking: no answer within 0.05 s"):
            await operation
        operation.resolve(1)
        assert await operation == 1

    run(main)


def test_a_callback_is_called_by_the_loop_with_the_answer_and_not_with_an_error() -> None:
    async def main(it: Bench) -> None:
        called: list[tuple[Any, bool]] = []

        def callback(answer: Any) -> None:
            called.append((answer, threading.current_thread() is threading.main_thread()))

        threading.Timer(0.01, it.operation(callback=callback).resolve, (1,)).start()
        it.operation(callback=callback).fail(ValueError("boom"))
        while not called:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert called == [(1, True)]

    run(main)


def test_to_await_what_is_done_costs_no_turn_of_the_loop() -> None:
    async def main(_it: Bench) -> None:
        turned: list[int] = []
        asyncio.get_running_loop().call_soon(turned.append, 1)
        for _ in range(3):
            await DONE
        assert not turned

    run(main)
