"""A connector whose service is asyncio itself."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neon_mq_connector.errors import (
    BrokerUnreachableError,
    RemoteError,
    RequestLostError,
    StoppedError,
)
from neon_mq_connector.testing import PrivateBroker
from tests.integration.awaiting.conftest import AsyncAsked, has_ended, own_threads, running
from tests.integration.conftest import Asked
from tests.support.loops import ON_BOTH_LOOPS, Heartbeat, LoopRunner, eventually_true
from tests.support.nodes import free_port

MakeAsync = Callable[..., Any]


# -- consuming -----------------------------------------------------------------------------------


@ON_BOTH_LOOPS
async def test_a_service_and_a_client_in_one_loop(make_async: MakeAsync) -> None:
    service, client = make_async(AsyncAsked).consume(), make_async()
    async with running(service), running(client):
        assert service.check_health()
        asking = (client.request({"n": n}, "square", timeout=120) for n in range(300))
        answers = await asyncio.gather(*asking)
        assert [answer["square"] for answer in answers] == [n**2 for n in range(300)]
        assert (await service.request({"n": 3}, "square"))["square"] == 9
    assert service.threads == {threading.get_ident()}
    assert service.most > 1
    assert own_threads(service) == []


def test_async_with_runs_and_stops_it(make_async: MakeAsync, arun: LoopRunner) -> None:
    async def main() -> None:
        service = make_async(AsyncAsked).consume()
        assert not service.check_health()
        async with service as entered:
            assert entered is service
            assert service.started
            assert service.check_health()
            assert service.health().consumers["square"].healthy
            assert (await service.request({"n": 2}, "square"))["square"] == 4
        assert not service.started
        assert not service.check_health()
        async with service:
            assert (await service.request({"n": 3}, "square"))["square"] == 9

    arun(main())
    arun(main())


async def test_consumers_are_started_and_stopped_one_by_one(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked)
    async with running(service):
        service.consume()
        await service.run_consumers()
        assert (await service.request({"n": 2}, "square"))["square"] == 4
        with pytest.raises(ValueError, match="is running"):
            service.consume()
        service.register_consumer(
            "square", service.vhost, "square", service.square, skip_on_existing=True
        )
        await service.restart_consumer("square")
        assert (await service.request({"n": 3}, "square"))["square"] == 9
        await service.stop_consumers(["square"])
        assert not service.consumers["square"].is_alive()
        service.consume()
        await service.run_consumers(["square"])
        assert (await service.request({"n": 4}, "square"))["square"] == 16
        with pytest.raises(KeyError):
            await service.restart_consumer("nobody")


# -- subclassing ---------------------------------------------------------------------------------


async def test_hooks_are_awaited_on_the_loop_with_what_run_was_given(make_async: MakeAsync) -> None:
    calls: list[Any] = []

    class Hooked(AsyncAsked):
        async def pre_run(self, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            calls.append(("pre", self.started, threading.get_ident(), kwargs["mine"]))
            self.consume()

        async def post_run(self, **kwargs: Any) -> None:
            answer = await self.request({"n": 5}, "square")
            calls.append(("post", answer["square"], threading.get_ident(), kwargs["mine"]))

    class Plain(AsyncAsked):
        def pre_run(self, **kwargs: Any) -> None:
            self.consume()

    me = threading.get_ident()
    async with running(make_async(Hooked), mine=1):
        pass
    assert calls == [("pre", False, me, 1), ("post", 25, me, 1)]
    plain = make_async(Plain)
    async with running(plain):
        assert (await plain.request({"n": 6}, "square"))["square"] == 36


async def test_a_hook_that_fails_leaves_nothing_running(make_async: MakeAsync) -> None:
    class Failing(AsyncAsked):
        async def post_run(self, **kwargs: Any) -> None:
            raise LookupError("no")

    service = make_async(Failing).consume()
    with pytest.raises(LookupError):
        async with service:
            raise AssertionError("it does not run")
    assert has_ended(service)


# -- where the broker is not ---------------------------------------------------------------------


async def test_without_a_broker_it_does_not_run(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked, port=free_port()).consume()
    async with Heartbeat() as heartbeat:
        with pytest.raises(BrokerUnreachableError):
            await service.run(mq_timeout=0.3)
    assert heartbeat.beats
    assert has_ended(service)


@ON_BOTH_LOOPS
async def test_runs_that_are_cancelled_at_any_moment_leave_nothing(make_async: MakeAsync) -> None:
    nowhere = {"port": free_port()}
    for delay, config in ((0, {}), (0.01, {}), (0.05, {}), (0.15, {}), (0.2, nowhere)):
        service = make_async(AsyncAsked, **config).consume()
        running = asyncio.create_task(service.run(mq_timeout=600))
        await asyncio.sleep(delay)
        running.cancel()
        await asyncio.wait([running])
        if config:
            assert running.cancelled()
            assert has_ended(service)
            return
        await service.stop()
        assert has_ended(service)
        async with service:
            assert (await service.request({"n": 2}, "square"))["square"] == 4


async def test_a_stop_while_it_starts_leaves_no_task(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked).consume()
    stopping: list[asyncio.Task[None]] = []
    service.pre_run = lambda **_: stopping.append(asyncio.create_task(service.stop()))
    await service.run()
    await stopping[0]
    assert not service.started
    names = [each.get_name() for each in asyncio.all_tasks()]
    assert [name for name in names if repr(service) in name] == []


@pytest.mark.parametrize("how", ["goes on", "is cancelled"])
async def test_a_run_that_was_stopped_has_no_part_in_the_next_one(
    make_async: MakeAsync, how: str
) -> None:
    service, may_go_on = make_async(AsyncAsked).consume(), asyncio.Event()
    started = asyncio.Event()

    async def wait_once(**_: Any) -> None:
        if not started.is_set():
            started.set()
            await may_go_on.wait()

    service.pre_run = wait_once
    first = asyncio.create_task(service.run())
    await started.wait()
    await service.stop()
    async with service:
        may_go_on.set()
        if how == "is cancelled":
            first.cancel()
        with pytest.raises((StoppedError, asyncio.CancelledError)):
            await first
        assert service.started
        names = [each.get_name() for each in asyncio.all_tasks()]
        assert len([name for name in names if name == f"sync {service!r}"]) == 1
        assert (await service.request({"n": 2}, "square"))["square"] == 4


# -- stopping ------------------------------------------------------------------------------------


async def test_an_exception_that_leaves_the_block_stops_it(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked).consume()
    with pytest.raises(LookupError):
        async with service:
            raise LookupError
    assert has_ended(service)

    async def work() -> None:
        async with service:
            await asyncio.sleep(60)

    working = asyncio.create_task(work())
    await eventually_true(service.check_health)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert has_ended(service)


async def test_a_stop_that_is_cancelled_stops_all_the_same(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked).consume()
    await service.run(run_sync=False)
    service.may_answer.clear()
    asking = asyncio.create_task(service.request({"n": 1}, "square"))
    await eventually_true(lambda: service.running == 1)
    asyncio.get_running_loop().call_later(0.3, service.may_answer.set)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert has_ended(service)
    assert (await asking)["square"] == 1


async def test_a_task_of_a_callback_may_stop_the_connector_and_be_waited_for(
    make_async: MakeAsync,
) -> None:
    service = make_async()
    went_on = asyncio.Event()

    async def stop(*_: Any) -> None:
        await asyncio.gather(asyncio.create_task(service.stop()), service.stop())
        went_on.set()

    service.register_consumer("stop", service.vhost, "stop", stop)
    await service.stop()
    await service.run()
    await service.send_message({"n": 1}, queue="stop")
    await asyncio.wait_for(went_on.wait(), 120)
    await asyncio.gather(*(service.stop() for _ in range(5)))
    assert own_threads(service) == []


async def test_a_callback_that_has_stopped_the_connector_cannot_run_it(
    make_async: MakeAsync,
) -> None:
    service = make_async()
    raised = asyncio.get_running_loop().create_future()

    async def restart(*_: Any) -> None:
        await service.stop()
        try:
            await service.run()
        except BaseException as error:
            raised.set_result(error)

    service.register_consumer("restart", service.vhost, "restart", restart)
    async with running(service):
        await service.send_message({"n": 1}, queue="restart")
        error = await asyncio.wait_for(raised, 120)
        assert isinstance(error, RuntimeError)
        assert "waits for the callback" in str(error)


async def test_who_awaits_something_when_it_stops_is_told(
    make_async: MakeAsync, broker: PrivateBroker, vhost: str
) -> None:
    service = make_async()
    async with running(service):
        asking = asyncio.create_task(service.request({"n": 1}, "nobody"))
        gathering = asyncio.create_task(service.gather({"n": 1}, "nobody"))
        stream = service.stream({"n": 1}, "nobody")
        reading = asyncio.create_task(anext(stream))
        await eventually_true(lambda: stream.reply_queue)
        await eventually_true(
            lambda: any(
                queue["name"] == "nobody" and queue["messages"] == 3
                for queue in broker.list_queues(vhost)
            )
        )
    await asyncio.wait([asking, gathering, reading], timeout=120)
    for task, error in (
        (asking, StoppedError),
        (gathering, StoppedError),
        (reading, RequestLostError),
    ):
        assert task.done()
        assert isinstance(task.exception(), error)
    with pytest.raises(RequestLostError):
        await anext(stream)
    with pytest.raises(StoppedError):
        await service.request({"n": 1}, "nobody")
    with pytest.raises(StoppedError):
        await service.send_message({"n": 1}, queue="nobody")
    with pytest.raises(StoppedError):
        service.stream({"n": 1}, "nobody")


async def test_it_sends_and_asks_without_being_run(make_async: MakeAsync, asked: Asked) -> None:
    host = make_async()
    assert (await host.request({"n": 4}, "square"))["square"] == 16
    await host.send_message({"n": 1}, queue="somewhere")
    assert not host.check_health()
    used = len(own_threads(host))
    await host.stop()
    assert len(own_threads(host)) == used - 1


async def test_another_loop_may_not_use_it_meanwhile(make_async: MakeAsync) -> None:
    host = make_async()
    async with running(host):
        with pytest.raises(RuntimeError, match="another asyncio loop"):
            await asyncio.to_thread(LoopRunner(), host.send_message({"n": 1}, queue="somewhere"))
        with pytest.raises(RuntimeError, match="runs already"):
            await host.run()


def test_a_loop_that_ends_without_a_stop_can_be_cleaned_up_by_the_next(
    make_async: MakeAsync, arun: LoopRunner
) -> None:
    service = make_async(AsyncAsked).consume()

    async def leave() -> None:
        await service.run()
        assert (await service.request({"n": 2}, "square"))["square"] == 4

    async def clean_up() -> None:
        await service.stop()
        assert own_threads(service) == []
        async with service:
            assert (await service.request({"n": 3}, "square"))["square"] == 9

    asyncio.run(leave())
    arun(clean_up())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_runs_it_on_a_loop_of_its_own(make_async: MakeAsync) -> None:
    service = make_async(AsyncAsked).consume()

    async def main() -> None:
        async with service:
            assert (await service.request({"n": 3}, "square"))["square"] == 9

    async with running(service):
        child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(main()))
        child.start()
        await asyncio.to_thread(child.join, 60.0)
        child.kill()
        assert child.exitcode == 0
        assert service.check_health()


# -- signals -------------------------------------------------------------------------------------


def kill_soon(number: int, delay: float = 0.0) -> None:
    asyncio.get_running_loop().call_later(delay, os.kill, os.getpid(), number)


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    """Handlers of the process's own, which have to be there again afterwards."""
    mine = {number: (lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: signal.signal(number, handler) for number, handler in mine.items()}
    yield {int(number): handler for number, handler in mine.items()}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "arun, number",
    [("asyncio", signal.SIGTERM), ("uvloop", signal.SIGINT)],
    indirect=["arun"],
)
async def test_run_forever_ends_with_a_signal(
    make_async: MakeAsync, handlers: dict[int, Any], number: int
) -> None:
    service = make_async(AsyncAsked).consume()
    forever = asyncio.create_task(service.run_forever(run_sync=False))
    await eventually_true(service.check_health)
    assert (await service.request({"n": 2}, "square"))["square"] == 4
    kill_soon(number)
    await asyncio.wait_for(forever, 120)
    assert has_ended(service)
    assert {each: signal.getsignal(each) for each in handlers} == handlers


async def test_a_signal_ends_the_wait_for_a_broker(
    make_async: MakeAsync, handlers: dict[int, Any]
) -> None:
    service = make_async(AsyncAsked, port=free_port()).consume()
    kill_soon(signal.SIGTERM, 0.3)
    await asyncio.wait_for(service.run_forever(), 120)
    assert has_ended(service)


async def test_a_second_signal_cancels_callbacks(
    make_async: MakeAsync, handlers: dict[int, Any]
) -> None:
    service = make_async(AsyncAsked, stop_timeout=600).consume()
    service.may_answer.clear()
    forever = asyncio.create_task(service.run_forever(run_sync=False))
    await eventually_true(service.check_health)
    asking = asyncio.create_task(service.request({"n": 2}, "square"))
    await eventually_true(lambda: service.running == 1)
    kill_soon(signal.SIGTERM)
    kill_soon(signal.SIGTERM, 0.5)
    await forever
    assert service.running == 0
    with pytest.raises((StoppedError, RemoteError)):  # whichever the stop brings first
        await asking


async def test_run_forever_ends_when_it_is_stopped_or_cancelled(
    make_async: MakeAsync, handlers: dict[int, Any]
) -> None:
    service = make_async(AsyncAsked).consume()
    forever = asyncio.create_task(service.run_forever(run_sync=False))
    await eventually_true(service.check_health)
    await service.stop()
    await asyncio.wait_for(forever, 120)
    forever = asyncio.create_task(service.run_forever(run_sync=False))
    await eventually_true(service.check_health)
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not service.started
    assert {each: signal.getsignal(each) for each in handlers} == handlers


async def test_run_forever_belongs_into_the_main_thread(make_async: MakeAsync) -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(LoopRunner(), make_async().run_forever())


# -- together with threads -----------------------------------------------------------------------


async def test_an_error_handler_is_awaited_whatever_it_is(make_async: MakeAsync) -> None:
    service, told = make_async(), asyncio.Event()

    async def fail(*_: Any) -> None:
        raise LookupError

    async def tell(_thread: Any, error: BaseException) -> None:
        if isinstance(error, LookupError):
            told.set()

    async def yields(*_: Any) -> Any:
        yield

    def function(*_: Any) -> None: ...

    with pytest.raises(TypeError, match=r"consumer 'c': .*function is no coroutine function"):
        service.register_consumer("c", service.vhost, "q", function)
    with pytest.raises(TypeError, match=r"'fail': on_error .*yields yields"):
        service.register_consumer("fail", service.vhost, "fail", fail, yields)
    service.register_consumer(
        "fail", service.vhost, "fail", fail, lambda thread, error: tell(thread, error)
    )
    async with running(service):
        await service.send_message({"n": 1}, queue="fail")
        await asyncio.wait_for(told.wait(), 120)


async def test_an_error_handler_that_does_not_end_is_cancelled_by_a_stop(
    make_async: MakeAsync,
) -> None:
    service, told, was_cancelled = make_async(stop_timeout=1.0), asyncio.Event(), asyncio.Event()

    async def fail(*_: Any) -> None:
        raise LookupError

    async def wait(*_: Any) -> None:
        told.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    service.register_consumer("fail", service.vhost, "fail", fail, wait)
    async with running(service):
        await service.send_message({"n": 1}, queue="fail")
        await asyncio.wait_for(told.wait(), 120)
    await asyncio.wait_for(was_cancelled.wait(), 120)
