"""Running coroutines for a dispatcher: how many, in which order, and how they end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector.aio.channel import AwaitableChannel
from neon_mq_connector.aio.loops import CallersLoop, LoopThread
from neon_mq_connector.aio.outbox import Outbox
from neon_mq_connector.aio.tasks import TaskRunner
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.runner import CallbacksEndedError
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.errors import FrameError, StoppedError
from neon_mq_connector.link import Delivery
from neon_mq_connector.topology import Queue
from tests.support.polling import eventually, never
from tests.unit.fakes import (
    FakeChannel,
    FakeConnections,
    as_channel,
    as_connections,
    as_raw,
    make_delivery,
)

Handle = Callable[[AwaitableChannel, Any, Any, bytes], Any]


class Bench:
    """A dispatcher whose callbacks are coroutines, on a channel that only writes down."""

    def __init__(self, loop: Any, callback: Handle, *, stop_timeout: float, **options: Any) -> None:
        options = {"dead_queue": "q.dead", "concurrency": 50, **options}
        registration = Registration(Queue("q"), **options)
        self.connections = FakeConnections()
        self.reports: list[BaseException] = []
        self.later: list[Callable[[], object]] = []
        self.failures = FailurePolicy(registration, as_connections(self.connections), lambda: None)

        def new_runner(dispatcher: Dispatcher, callback: Handle, **given: Any) -> TaskRunner:
            del given["name"]
            return TaskRunner(
                dispatcher,
                lambda channel, delivery: callback(channel, *delivery),
                **given,
                loop=loop,
                outbox=Outbox(as_connections(self.connections), "mq-outbox:bench"),
                callback_name="the_callback",
                queue="q",
                stop_timeout=stop_timeout,
            )

        self.dispatcher = Dispatcher(
            registration,
            callback,
            self.failures,
            report=self.reports.append,
            later=self.later.append,
            name="bench",
            new_runner=new_runner,
        )
        assert isinstance(self.dispatcher.runner, TaskRunner)
        self.runner = self.dispatcher.runner
        host = SessionHost(
            stop=lambda: None,
            later=self.later.append,
            publish_failed=self.dispatcher.publish_failed,
            report=self.reports.append,
            answered=lambda _session: None,
            ended=lambda *_: None,
            is_stopping=lambda: False,
            acks_on_receipt=registration.ack is AckMode.ON_RECEIPT,
            flow=Flow(registration, lambda: 0, lambda: False),
        )
        self.channel = FakeChannel()
        self.session = Session(
            host, as_connections(self.connections), as_channel(self.channel), "q", {}
        )

    def come(self, *deliveries: Delivery) -> None:
        batch = [as_raw(each) for each in deliveries]
        self.session.delivered(batch)
        self.dispatcher.handle_batch(self.session, batch, time.monotonic())

    def number(self, *tags: int) -> None:
        self.come(*(make_delivery(tag, b"%d" % tag) for tag in tags))

    def do_later(self) -> int:
        """Do what the consumer's thread would."""
        calls, self.later[:] = list(self.later), []
        for call in calls:
            call()
        return len(calls)

    @property
    def acked(self) -> list[int]:
        return [tag for kind, tag, _ in self.channel.settled if kind == "ack"]

    @property
    def given_back(self) -> list[int]:
        return [tag for kind, tag, requeue in self.channel.settled if kind == "nack" and requeue]


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("mq-asyncio:bench")
    yield loop
    loop.stop(5.0)


@pytest.fixture
def bench(loop: LoopThread) -> Callable[..., Bench]:
    def make(callback: Handle, *, stop_timeout: float = 10.0, **options: Any) -> Bench:
        it = Bench(loop, callback, stop_timeout=stop_timeout, **options)
        it.dispatcher.start()
        return it

    return make


class Gate:
    """Coroutines wait here until they may go on."""

    def __init__(self) -> None:
        self.inside: list[int] = []
        self.open = threading.Event()

    async def wait(self, _channel: Any, method: Any, *_: Any) -> None:
        self.inside.append(method.delivery_tag)
        while not self.open.is_set():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ack", AckMode)
def test_messages_are_acknowledged_as_registered(bench: Callable[..., Bench], ack: AckMode) -> None:
    seen: list[list[int]] = []

    async def callback(channel: Any, method: Any, *_: Any) -> None:
        await asyncio.sleep(0)
        seen.append(it.acked)
        if ack is AckMode.MANUAL:
            await channel.basic_ack(method.delivery_tag)

    it = bench(callback, ack=ack, concurrency=1)
    it.number(1)
    eventually(lambda: it.acked == [1])
    eventually(lambda: it.dispatcher.handled == 1)
    assert seen == [[1] if ack is AckMode.ON_RECEIPT else []]


def test_no_more_run_than_may_and_the_next_begins_when_one_ends(
    bench: Callable[..., Bench],
) -> None:
    gate = Gate()
    it = bench(gate.wait, ack=AckMode.ON_SUCCESS, concurrency=3)
    it.number(1, 2)
    it.number(3, 4, 5, 6, 7)
    eventually(lambda: len(gate.inside) == 3)
    never(lambda: len(gate.inside) > 3, during=0.1)
    assert [each.tag for each in it.dispatcher.running()] == [1, 2, 3]
    assert len(it.dispatcher.backlog) == 4
    gate.open.set()
    eventually(lambda: it.dispatcher.handled == 7)
    assert gate.inside == [1, 2, 3, 4, 5, 6, 7]
    assert it.dispatcher.running() == []


def test_many_that_never_wait_do_not_nest(bench: Callable[..., Bench]) -> None:
    async def callback(*_: Any) -> None: ...

    it = bench(callback, ack=AckMode.ON_SUCCESS, concurrency=1, prefetch_count=5_000)
    it.number(*range(1, 5_001))
    eventually(lambda: it.dispatcher.handled == 5_000)


def test_each_knows_what_it_handles(bench: Callable[..., Bench]) -> None:
    seen: list[bool] = []

    async def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        await asyncio.sleep(0.01)
        current = current_channel.get()
        seen.append(
            current is not None and current.delivery is not None and current.delivery.body is body
        )

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    it.number(*range(1, 21))
    eventually(lambda: seen == [True] * 20)
    on_the_loop: list[Any] = []
    it.runner._loop.call(lambda: on_the_loop.append(current_channel.get()))
    eventually(lambda: on_the_loop == [None])


def test_what_comes_of_a_failure_is_done_on_the_consumers_thread(
    bench: Callable[..., Bench],
) -> None:
    async def fail(*_: Any) -> None:
        raise ValueError("boom")

    retry = Retry(backoff=ExponentialBackoff(first=0.0))
    it = bench(fail, ack=AckMode.ON_SUCCESS, retry=retry)
    it.number(1)
    for tries in range(1, 4):
        eventually(lambda: it.later)
        assert len(it.reports) == tries - 1
        it.do_later()
        assert len(it.reports) == tries
        it.dispatcher.retry_due(it.session)
    assert [message.body for message in it.connections.publisher.messages] == [b"1"]
    assert it.acked == [1]
    assert it.dispatcher.failed == 3


def test_what_cannot_be_read_is_parked_on_the_consumers_thread_too(
    bench: Callable[..., Bench],
) -> None:
    async def callback(*_: Any) -> None: ...

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    method, _header, body = as_raw(make_delivery(1))
    it.session.delivered([(method, b"", body)])
    it.dispatcher.handle_batch(it.session, [(method, b"", body)], time.monotonic())
    it.number(2)
    eventually(lambda: it.acked == [2])
    assert not it.connections.publisher.messages
    it.do_later()
    assert [type(error) for error in it.reports] == [FrameError]
    assert it.acked == [2, 1]


def test_a_request_that_came_too_late_starts_no_coroutine(bench: Callable[..., Bench]) -> None:
    seen: list[bytes] = []

    async def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        seen.append(body)

    from neon_mq_connector.envelope import TIME_ALLOWED

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    late = make_delivery(1, b"late", BasicProperties(headers={TIME_ALLOWED: 1}))
    batch = [as_raw(late)]
    it.session.delivered(batch)
    it.dispatcher.handle_batch(it.session, batch, time.monotonic() - 10.0)
    it.number(2)
    eventually(lambda: seen == [b"2"])
    assert it.dispatcher.expired == 1


def test_what_waits_for_long_is_given_back(bench: Callable[..., Bench]) -> None:
    gate = Gate()
    it = bench(gate.wait, ack=AckMode.ON_SUCCESS, concurrency=1)
    it.number(1, 2, 3)
    eventually(lambda: gate.inside == [1])
    assert it.dispatcher.give_back_older(time.monotonic() - 60.0) == 0
    assert it.dispatcher.give_back_older(time.monotonic()) == 2
    assert it.given_back == [2, 3]
    gate.open.set()
    it.number(4)
    eventually(lambda: sorted(it.acked) == [1, 4])


def test_a_stop_lets_them_end_and_starts_no_more(bench: Callable[..., Bench]) -> None:
    gate = Gate()
    it = bench(gate.wait, ack=AckMode.ON_SUCCESS, concurrency=2)
    it.number(1, 2, 3, 4)
    eventually(lambda: gate.inside == [1, 2])
    finishing = threading.Thread(target=it.dispatcher.finish)
    finishing.start()
    finishing.join(0.2)
    assert finishing.is_alive()
    gate.open.set()
    finishing.join(30.0)
    assert not finishing.is_alive()
    assert gate.inside == [1, 2]
    assert sorted(it.acked) == [1, 2]
    assert not it.reports


def test_a_stop_with_nothing_running_takes_no_time(bench: Callable[..., Bench]) -> None:
    async def callback(*_: Any) -> None: ...

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    it.dispatcher.finish()


def test_when_the_time_is_up_they_are_cancelled_once_and_their_messages_go_back(
    bench: Callable[..., Bench],
) -> None:
    cancelled: list[int] = []

    async def stay(_channel: Any, method: Any, *_: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(method.delivery_tag)
            await asyncio.sleep(0.15)  # a second cancel would show
            raise

    it = bench(stay, ack=AckMode.ON_SUCCESS, stop_timeout=2.0)
    it.number(1, 2, 3)
    eventually(lambda: len(it.dispatcher.running()) == 3)
    it.dispatcher.finish()
    assert sorted(cancelled) == [1, 2, 3]
    assert sorted(it.given_back) == [1, 2, 3]
    assert not it.later
    assert it.dispatcher.failed == 0


def test_a_shorter_time_counts_and_a_longer_one_does_not(bench: Callable[..., Bench]) -> None:
    gate = Gate()
    it = bench(gate.wait, ack=AckMode.ON_SUCCESS, stop_timeout=60.0)
    it.number(1)
    eventually(lambda: gate.inside == [1])
    finishing = threading.Thread(target=it.dispatcher.finish)
    finishing.start()
    it.runner.hurry(4.0)
    it.runner.hurry(60.0)
    finishing.join(30.0)
    assert not finishing.is_alive()
    assert it.given_back == [1]


def test_tasks_that_somebody_else_cancels_before_they_begin_are_not_forgotten(
    bench: Callable[..., Bench], loop: LoopThread
) -> None:
    started: list[int] = []

    async def callback(_channel: Any, method: Any, *_: Any) -> None:
        started.append(method.delivery_tag)
        await asyncio.sleep(60)

    it = bench(callback, ack=AckMode.ON_SUCCESS, concurrency=500, prefetch_count=500)
    entered, release = threading.Event(), threading.Event()

    def hold_up() -> None:
        entered.set()
        release.wait(30.0)

    def cancel_all() -> None:
        for task in asyncio.all_tasks(loop.loop):
            task.cancel()

    loop.call(hold_up)
    assert entered.wait(30.0)
    it.number(*range(1, 401))
    loop.call(cancel_all)
    release.set()
    eventually(lambda: len(it.dispatcher.running()) == 400)
    eventually(lambda: it.runner.standstill() == "" and it.dispatcher.failed == 400)
    assert not started
    assert it.dispatcher.running() == []


def test_where_the_loop_has_ended_messages_are_not_taken_silently(
    bench: Callable[..., Bench], loop: LoopThread
) -> None:
    async def callback(*_: Any) -> None: ...

    it = bench(callback, ack=AckMode.ON_SUCCESS)
    assert loop.stop(5.0)
    it.number(1)
    (call,) = it.later
    with pytest.raises(CallbacksEndedError, match="mq-asyncio:bench has ended"):
        call()
    assert "has ended" in it.runner.standstill()
    it.dispatcher.finish()


def test_a_loop_that_has_ended_before_the_start_is_said_to_be_so(loop: LoopThread) -> None:
    async def callback(*_: Any) -> None: ...

    loop.start(5.0)
    loop.stop(5.0)
    it = Bench(loop, callback, stop_timeout=1.0)
    with pytest.raises(StoppedError):
        it.dispatcher.start()


def test_it_runs_on_a_loop_of_the_callers() -> None:
    async def main() -> None:
        seen: list[int] = []

        async def callback(_channel: Any, method: Any, *_: Any) -> None:
            assert it.runner.is_calling()
            assert await asyncio.to_thread(it.runner.is_calling)
            seen.append(method.delivery_tag)

        it = Bench(CallersLoop(), callback, stop_timeout=5.0, ack=AckMode.ON_SUCCESS)
        it.dispatcher.start()
        await asyncio.to_thread(it.number, 1, 2, 3)
        while it.dispatcher.handled < 3:
            await asyncio.sleep(0.01)
        assert sorted(seen) == [1, 2, 3]
        await asyncio.to_thread(it.dispatcher.finish)

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_a_thread_that_has_nothing_to_do_with_it_is_not_calling(
    bench: Callable[..., Bench],
) -> None:
    gate = Gate()
    it = bench(gate.wait, ack=AckMode.ON_SUCCESS)
    it.number(1)
    eventually(lambda: gate.inside == [1])
    assert not it.runner.is_calling()
    gate.open.set()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
def test_a_loop_that_runs_tasks_at_once_changes_nothing(
    bench: Callable[..., Bench], loop: LoopThread
) -> None:
    most = 0

    async def callback(*_: Any) -> None:
        nonlocal most
        most = max(most, len(it.dispatcher.running()))
        await asyncio.sleep(0.001 if most < 3 else 0)

    it = bench(callback, ack=AckMode.ON_SUCCESS, concurrency=5, prefetch_count=5_000)
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    loop.call(loop.loop.set_task_factory, factory)
    it.number(*range(1, 3_001))
    eventually(lambda: it.dispatcher.handled == 3_000)
    assert 1 <= most <= 5
    assert it.dispatcher.running() == []
