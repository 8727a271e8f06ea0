"""The consumers of a connector: registered, started, stopped, replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from neon_mq_connector.consumers import BaseConsumerThread
from neon_mq_connector.lifecycle import Lifecycle, State
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.consuming import Consumers, wait_for_end
from neon_mq_connector.service.virtual_hosts import VirtualHosts

NOTHING: Callable[[], None] = lambda: None  # noqa: E731


class FakeConsumerThread:
    """A consumer thread whose life the test directs; `made` has all of them, in order."""

    def __init__(self, made: list[FakeConsumerThread]) -> None:
        self.number = len(made)
        self.name = f"fake-{self.number}"
        self.queue = "q"
        self.daemon = False
        self.ident: int | None = None
        self.consumer = self.dispatcher = self
        self.lifecycle = Lifecycle()
        self.stop_requested = False
        self.stop_timeout = 0.0
        self.fails = False
        self.callback_runs = False
        self.is_calling = False
        self.on_start: Callable[[], None] = NOTHING
        self.on_join: Callable[[], None] = NOTHING
        made.append(self)

    @property
    def is_running(self) -> bool:
        """Whether it would consume on after all has been said and done."""
        return self.ident is not None and not self.stop_requested

    def running(self) -> list[str]:
        return ["a callback"] * self.callback_runs

    def is_alive(self) -> bool:
        return self.ident is not None and (self.callback_runs or not self.stop_requested)

    @property
    def is_consumer_alive(self) -> bool:
        return not self.stop_requested and not self.fails

    @property
    def can_start(self) -> bool:
        return self.ident is None and self.is_consumer_alive

    def start(self) -> None:
        self.on_start()
        assert self.ident is None, "a thread can be started once"
        self.ident = 1
        self.lifecycle.move(State.CONNECTING)
        self.lifecycle.move(State.CONSUMING)

    def request_stop(self, timeout: float = 0.0) -> None:
        self.stop_requested = True
        self.stop_timeout = timeout

    def join(self, timeout: float | None = None) -> None:
        self.request_stop()
        self.on_join()


class Bench:
    """Consumers that have such threads."""

    def __init__(self) -> None:
        self.made: list[FakeConsumerThread] = []
        service = ConfiguredService({"server": "localhost", "stop_timeout": 7}, "service")
        self.consumers = Consumers(service, VirtualHosts(service))

    def register(self, name: str = "a") -> FakeConsumerThread:
        def factory() -> BaseConsumerThread:
            return cast(BaseConsumerThread, FakeConsumerThread(self.made))

        self.consumers.put(name, factory, {"started": False})
        return cast(FakeConsumerThread, self.consumers.threads[name])

    def start(self, *names: str) -> None:
        self.consumers.run(names or ("a",), daemon=True)

    def stop(self) -> None:
        self.consumers.request_stop(("a",))

    def thread(self, name: str = "a") -> Any:
        return self.consumers.threads[name]

    def running(self) -> list[int]:
        return [each.number for each in self.made if each.is_running]


@pytest.fixture
def it() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.consumers.begin_stop()


def test_the_one_that_has_not_ended_is_named(it: Bench, caplog: pytest.LogCaptureFixture) -> None:
    stuck = it.register()
    it.start()
    stuck.callback_runs = True
    threads = it.consumers.request_stop(("a",))
    with caplog.at_level(logging.WARNING, logger="neon_mq_connector"):
        wait_for_end(threads, time.monotonic() + 0.05)
        assert "fake-0" in caplog.text
        caplog.clear()
        stuck.callback_runs = False
        wait_for_end(threads, time.monotonic() + 0.05)
    assert not caplog.text


def test_consumers_have_the_time_of_a_stop_for_what_the_broker_has_to_answer(it: Bench) -> None:
    thread = it.register()
    it.start()
    it.stop()
    assert thread.stop_timeout == 7


# -- races: at no time may a consumer run that nobody can stop any more ------------------------


def test_one_that_failed_and_still_lives_is_stopped_before_another_takes_its_place(
    it: Bench,
) -> None:
    failed = it.register()
    it.start()
    failed.fails = True  # it waits before it tries again
    it.start()
    it.consumers.request_stop(("a",))
    assert it.running() == []


def test_a_start_while_a_name_is_registered_anew_leaves_nothing_unreachable(it: Bench) -> None:
    before = it.register()
    it.start()
    # another thread starts the name, at the moment when the one that ran has just been stopped
    before.on_join = lambda: it.start()
    it.register()
    it.start()
    it.consumers.request_stop(("a",))
    assert it.running() == []


def test_a_stop_while_a_consumer_is_being_started_is_a_stop(it: Bench) -> None:
    thread = it.register()
    thread.on_start = lambda: it.stop()
    it.start()
    assert it.running() == []


def test_many_threads_that_register_start_and_stop_leave_what_the_last_one_said(
    it: Bench,
) -> None:
    it.register()
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait(120.0)
        for _ in range(20):
            (it.register, it.start, it.stop)[number % 3]()

    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            assert list(pool.map(work, range(6), timeout=120.0)) == [None] * 6
            it.stop()
            assert it.running() == []
