"""Calls for an asyncio loop from other threads: in order, few wake-ups, none lost."""

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
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LoopRunner(request.param).new_loop


@pytest.fixture
def thread(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[LoopThread]:
    thread = LoopThread("mq-asyncio:tests", new_loop)
    yield thread
    assert thread.stop(5.0)


@pytest.fixture(params=["a thread of ours", "the caller's"])
def loop(
    request: pytest.FixtureRequest, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[CoroutineLoop]:
    """A loop of each kind, which runs."""
    if request.param == "a thread of ours":
        ours = LoopThread("mq-asyncio:tests", new_loop)
        ours.start(5.0)
        yield ours
        assert ours.stop(5.0)
        return
    its = new_loop()
    runner = threading.Thread(target=its.run_forever)
    runner.start()
    yield CoroutineLoop(its)
    its.call_soon_threadsafe(its.stop)
    runner.join(30.0)
    its.close()


def on(loop: CoroutineLoop, function: Callable[[], Any]) -> Any:
    """Call something on the loop and give what it returns."""
    results: list[Any] = []
    loop.call(lambda: results.append(function()))
    eventually(lambda: results)
    return results[0]


def test_each_threads_calls_are_made_in_their_order(loop: CoroutineLoop) -> None:
    made: list[tuple[int, int]] = []

    def call(number: int) -> None:
        for each in range(2_000):
            loop.call(made.append, (number, each))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    eventually(lambda: len(made) == 8_000)
    for number in range(4):
        assert [each for who, each in made if who == number] == list(range(2_000))


def test_many_calls_wake_the_loop_once(
    loop: CoroutineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    wakes: list[object] = []

    def hold_up() -> None:
        entered.set()
        release.wait(30.0)

    loop.call(hold_up)
    assert entered.wait(30.0)
    wake = loop._wake

    def counted() -> None:
        wakes.append(None)
        wake()

    monkeypatch.setattr(loop, "_wake", counted)
    made: list[int] = []
    for number in range(100):
        loop.call(made.append, number)
    release.set()
    eventually(lambda: len(made) == 100)
    assert len(wakes) == 1


def test_a_call_that_raises_is_logged_and_harms_no_other(
    loop: CoroutineLoop, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []
    loop.call(lambda: 1 / 0)
    loop.call(made.append, "after")
    eventually(lambda: made)
    assert "a call that it was given failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_it_is_known_who_is_on_the_loop(loop: CoroutineLoop) -> None:
    assert not loop.is_loop_thread
    assert on(loop, lambda: loop.is_loop_thread) is True


def test_what_the_waking_thread_is_about_does_not_reach_the_tasks(loop: CoroutineLoop) -> None:
    about: contextvars.ContextVar[str] = contextvars.ContextVar("about", default="nothing")
    about.set("a message of this thread")
    assert on(loop, about.get) == "nothing"


def test_a_loop_that_is_held_up_is_found_out(loop: CoroutineLoop) -> None:
    assert loop.blocked_for() == 0.0
    eventually(lambda: loop.blocked_for() == 0.0)
    release = threading.Event()
    entered = threading.Event()
    loop.call(entered.set)
    loop.call(release.wait, 10.0)
    assert entered.wait(30.0)
    loop.blocked_for()
    eventually(lambda: loop.blocked_for() > 0.3)
    release.set()
    eventually(lambda: loop.blocked_for() == 0.0)


def test_every_call_is_made_or_refused_while_it_stops(loop: CoroutineLoop) -> None:
    made: list[object] = []
    refused: list[object] = []

    def call() -> None:
        while not refused or len(refused) < 50:
            mark = object()
            try:
                loop.call(made.append, mark)
            except StoppedError:
                refused.append(mark)
            else:
                accepted.append(mark)

    accepted: list[object] = []
    threads = [threading.Thread(target=call) for _ in range(3)]
    for each in threads:
        each.start()
    eventually(lambda: len(made) > 100)
    assert loop.stop(5.0)
    for each in threads:
        each.join(30.0)
    eventually(lambda: len(made) == len(accepted))
    assert set(map(id, made)) == set(map(id, accepted))


def test_after_the_end_a_call_is_refused_and_says_so(loop: CoroutineLoop) -> None:
    assert loop.stop(5.0)
    assert loop.stop(5.0)
    assert loop.has_ended
    with pytest.raises(StoppedError, match="has ended"):
        loop.call(print)
    with pytest.raises(StoppedError):
        loop.start(1.0)


def test_stopping_on_the_loop_itself_does_not_wait(loop: CoroutineLoop) -> None:
    assert on(loop, lambda: loop.stop(5.0)) is True
    eventually(lambda: loop.has_ended)


# -- a thread of ours --------------------------------------------------------------------------


def test_calls_from_before_the_start_are_made_at_the_start(thread: LoopThread) -> None:
    made: list[int] = []
    thread.call(made.append, 1)
    assert not made
    thread.start(5.0)
    thread.start(5.0)
    eventually(lambda: made == [1])


def test_one_that_never_ran_has_no_thread_and_can_be_stopped(thread: LoopThread) -> None:
    with pytest.raises(StoppedError, match="not started"):
        _ = thread.loop
    assert thread.stop(1.0)


def test_calls_from_before_the_stop_are_made(thread: LoopThread) -> None:
    made: list[int] = []
    thread.start(5.0)
    for number in range(1_000):
        thread.call(made.append, number)
    assert thread.stop(5.0)
    assert made == list(range(1_000))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_ends_nothing(
    thread: LoopThread, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        raise error

    thread.start(5.0)
    tasks: list[asyncio.Task[None]] = []
    thread.call(lambda: tasks.append(thread.loop.create_task(leave())))
    eventually(lambda: tasks and tasks[0].done())
    assert isinstance(tasks[0].exception(), error)
    assert on(thread, lambda: "still here") == "still here"
    assert "broke out" in caplog.text


def test_a_stop_of_the_loop_by_a_callback_ends_nothing(thread: LoopThread) -> None:
    thread.start(5.0)
    thread.call(thread.loop.stop)
    assert on(thread, lambda: "still here") == "still here"


def test_a_stop_cancels_what_still_runs_and_lets_it_clean_up(thread: LoopThread) -> None:
    cleaned: list[str] = []

    async def run() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("up")

    thread.start(5.0)
    thread.call(lambda: thread.loop.create_task(run()))
    assert on(thread, lambda: None) is None
    assert thread.stop(5.0)
    assert cleaned == ["up"]


def test_a_task_that_will_not_end_does_not_hold_up_the_stop(
    thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[asyncio.Future[None]] = []

    async def stay() -> None:
        while not ends:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    thread.start(5.0)
    thread.call(lambda: thread.loop.create_task(stay(), name="the one that stays"))
    assert on(thread, lambda: None) is None
    thread.stop(0.5)
    eventually(lambda: thread.stop(0.1))
    assert "the one that stays" in caplog.text


def test_a_blocked_loop_does_not_hold_up_the_stop(thread: LoopThread) -> None:
    release = threading.Event()
    thread.start(5.0)
    thread.call(release.wait, 20.0)
    assert thread.stop(0.2) is False
    release.set()


# -- the caller's ------------------------------------------------------------------------------


def test_a_loop_that_its_owner_has_closed_refuses_calls(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    its = new_loop()
    loop = CoroutineLoop(its)
    loop.start(1.0)
    its.close()
    assert loop.has_ended
    with pytest.raises(StoppedError):
        loop.call(print)
    with pytest.raises(StoppedError):
        loop.start(1.0)
    assert loop.stop(1.0)


def test_calls_that_a_closed_loop_never_came_to_are_said_to_be_lost(
    new_loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    its = new_loop()
    loop = CoroutineLoop(its)
    loop.call(print)
    its.close()
    assert loop.stop(1.0) is False
    assert "1 calls were not made" in caplog.text


def test_it_is_the_running_loop_by_default() -> None:
    async def main() -> None:
        loop = CoroutineLoop(asyncio.get_running_loop())
        assert loop.loop is asyncio.get_running_loop()
        assert loop.is_loop_thread
        made: list[int] = []
        loop.call(made.append, 1)
        assert not made
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made == [1]

    asyncio.run(main())
    with pytest.raises(RuntimeError):
        CoroutineLoop(asyncio.get_running_loop())


def test_what_a_loop_is_given_before_it_is_known_is_done_when_it_is() -> None:
    made: list[str] = []
    late = CoroutineLoop()
    late.call(made.append, "before")
    with pytest.raises(StoppedError, match="was not started"):
        late.start(1.0)
    with pytest.raises(StoppedError, match="was not started"):
        _ = late.loop

    async def main() -> None:
        late.bind(asyncio.get_running_loop())
        late.start(1.0)
        late.call(made.append, "after")
        await asyncio.sleep(0)
        assert made == ["before", "after"]

    asyncio.run(main())
    assert late.has_ended
