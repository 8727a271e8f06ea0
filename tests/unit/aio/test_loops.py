"""Calls for an asyncio loop from other threads: in order, none lost."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neon_mq_connector.aio.loops import CoroutineLoop, LoopThread
from neon_mq_connector.errors import StoppedError
from tests.support.loops import LOOPS, LoopRunner
from tests.support.polling import eventually


@pytest.fixture(params=LOOPS)
def new_loop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], asyncio.AbstractEventLoop]:
    make = LoopRunner(request.param).new_loop
    if request.param == "uvloop":  # or else the function would call itself
        monkeypatch.setattr(asyncio, "new_event_loop", make)
    return make


@pytest.fixture(params=["asyncio's in a thread of ours", "the caller's of uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[CoroutineLoop]:
    """A loop of each kind, which runs."""
    if "ours" in request.param:
        ours = LoopThread("mq-asyncio:tests")
        ours.start()
        yield ours
        assert ours.stop(120.0)
        return
    its = LoopRunner("uvloop").new_loop()
    runner = threading.Thread(target=its.run_forever)
    runner.start()
    yield CoroutineLoop(its)
    its.call_soon_threadsafe(its.stop)
    runner.join(120.0)
    its.close()


def on(loop: CoroutineLoop, function: Callable[[], Any]) -> Any:
    """Call something on the loop and give what it returns."""
    results: list[Any] = []
    loop.call(lambda: results.append(function()))
    eventually(lambda: results)
    return results[0]


def test_each_threads_calls_are_made_in_their_order_until_they_are_refused(
    loop: CoroutineLoop,
) -> None:
    made: list[tuple[int, int]] = []
    accepted = [0] * 4

    def call(number: int) -> None:
        refused = 0
        while refused < 50:
            try:
                loop.call(made.append, (number, accepted[number]))
            except StoppedError:
                refused += 1
            else:
                accepted[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    eventually(lambda: len(made) > 2_000)
    assert loop.stop(120.0)
    for each in threads:
        each.join(120.0)
    eventually(lambda: len(made) == sum(accepted))
    for number in range(4):
        assert [each for who, each in made if who == number] == list(range(accepted[number]))


def test_what_the_waking_thread_is_about_does_not_reach_the_tasks(loop: CoroutineLoop) -> None:
    about: contextvars.ContextVar[str] = contextvars.ContextVar("about", default="nothing")
    about.set("a message of this thread")
    assert on(loop, about.get) == "nothing"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_ends_no_thread_of_ours(
    new_loop: Callable[[], asyncio.AbstractEventLoop],  # which the thread makes
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leave() -> None:
        raise error

    thread = LoopThread("mq-asyncio:tests")
    thread.start()
    tasks: list[asyncio.Task[None]] = []
    thread.call(lambda: tasks.append(thread.loop.create_task(leave())))
    eventually(lambda: tasks and tasks[0].done())
    assert isinstance(tasks[0].exception(), error)
    assert on(thread, lambda: "still here") == "still here"
    assert "broke out" in caplog.text
    assert thread.stop(120.0)


def test_a_loop_that_its_owner_has_closed_refuses_calls(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    its = new_loop()
    loop = CoroutineLoop(its)
    loop.start()
    its.close()
    assert loop.has_ended
    with pytest.raises(StoppedError):
        loop.call(print)
    with pytest.raises(StoppedError):
        loop.start()
    assert loop.stop(120.0)


def test_what_a_loop_is_given_before_it_is_known_is_done_when_it_is() -> None:
    made: list[str] = []
    late = CoroutineLoop()
    late.call(made.append, "before")
    with pytest.raises(StoppedError, match="was not started"):
        late.start()
    with pytest.raises(StoppedError, match="was not started"):
        _ = late.loop

    async def main() -> None:
        late.bind(asyncio.get_running_loop())
        late.start()
        late.call(made.append, "after")
        await asyncio.sleep(0)
        assert made == ["before", "after"]

    asyncio.run(main())
    assert late.has_ended
