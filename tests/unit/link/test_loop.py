"""The loop of an I/O thread: no wake-up is lost, timers come in order, faults end nothing."""

from __future__ import annotations

import logging
import random
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from neon_mq_connector.link import loop as loop_module
from neon_mq_connector.link.loop import Loop
from tests.support.polling import eventually


class Bench:
    """A loop, its outbox and its thread."""

    def __init__(self) -> None:
        self.outbox: deque[Callable[[], object]] = deque()
        self.loop = Loop(self.outbox)
        self.thread = threading.Thread(target=self.loop.start, name="loop", daemon=True)

    def add(self, work: Callable[[], object]) -> None:
        self.outbox.append(work)
        self.loop.wake()

    def call(self, work: Callable[[], Any]) -> Any:
        """Have the loop's thread call something, and wait for what it gives."""
        answers: list[Any] = []
        done = threading.Event()

        def answer() -> None:
            answers.append(work())
            done.set()

        self.add(answer)
        assert done.wait(120.0), "it was not called"
        return answers[0]

    def end(self) -> None:
        self.loop.stop()
        self.thread.join(120.0)
        assert not self.thread.is_alive(), "it does not stop"
        self.loop.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A loop that runs, and that sleeps for ever if a wake-up is lost."""
    monkeypatch.setattr(loop_module, "_LONGEST_SLEEP", 1_000.0)
    bench = Bench()
    bench.thread.start()
    yield bench
    bench.end()


# -- waking ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("how", ["outbox", "callbacks"])
def test_no_wake_up_is_lost_when_many_threads_add_work(bench: Bench, how: str) -> None:
    def add_and_wait(number: int) -> None:
        chance = random.Random(number)
        done = threading.Semaphore(0)
        for _ in range(300):
            count = chance.choice([1, 1, 2, 5])
            for _ in range(count):
                if how == "outbox":
                    bench.add(done.release)
                else:
                    bench.loop.add_callback(done.release)
            # waiting for the last lets the loop go to sleep, or nearly
            for _ in range(count):
                assert done.acquire(timeout=120.0)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(add_and_wait, range(6))) == [None] * 6
    assert not bench.outbox


def test_waking_never_waits_however_often_and_a_closed_loop_is_not_woken() -> None:
    waker = loop_module.Waker()
    for _ in range(20_000):  # more than a socket takes
        waker.wake()
    assert select.select([waker.fd], [], [], 0.0)[0]
    while select.select([waker.fd], [], [], 0.0)[0]:
        waker.clear()
    waker.clear()
    waker.wake()
    assert select.select([waker.fd], [], [], 0.0)[0]
    waker.close()
    waker.wake()


def test_work_that_adds_work_does_not_keep_timers_waiting(bench: Bench) -> None:
    called = threading.Event()

    def again() -> None:
        if not called.is_set():
            bench.outbox.append(again)

    bench.add(again)
    bench.add(lambda: bench.loop.call_later(0.01, called.set))
    assert called.wait(120.0)


def test_a_signal_handler_may_add_work_while_its_thread_does(bench: Bench) -> None:
    main = threading.get_ident()
    by_main, by_signals = threading.Semaphore(0), threading.Semaphore(0)

    def send_signals() -> None:
        for _ in range(200):
            signal.pthread_kill(main, signal.SIGUSR1)
            assert by_signals.acquire(timeout=120.0)

    before = signal.signal(signal.SIGUSR1, lambda *_: bench.add(by_signals.release))
    try:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_signals)
            while not sending.done():
                bench.add(by_main.release)
                assert by_main.acquire(timeout=120.0)
            sending.result()
    finally:
        signal.signal(signal.SIGUSR1, before)


# -- timers ------------------------------------------------------------------------------------


def test_a_timer_that_was_removed_is_not_called_even_by_one_due_with_it(bench: Bench) -> None:
    seen: list[str] = []

    def arm() -> None:
        first = bench.loop.call_later(0.0, lambda: bench.loop.remove_timeout(second))
        second = bench.loop.call_later(0.0, lambda: seen.append("second"))
        third = bench.loop.call_later(0.0, lambda: seen.append("third"))
        bench.loop.remove_timeout(third)
        bench.loop.call_later(0.02, lambda: seen.append("last"))
        assert first.number < second.number < third.number

    bench.call(arm)
    eventually(lambda: seen)
    assert seen == ["last"]


# -- faults ------------------------------------------------------------------------------------


def test_an_exception_in_work_is_logged_and_ends_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("as the test says")

    with caplog.at_level(logging.ERROR, logger="neon_mq_connector.link"):
        bench.add(fail)
        assert bench.call(lambda: 7) == 7
    assert "ValueError: as the test says" in caplog.text


# -- stopping ----------------------------------------------------------------------------------


def test_a_stop_from_elsewhere_ends_it_wherever_it_is() -> None:
    for turns in range(0, 400, 20):
        bench = Bench()
        bench.thread.start()
        for _ in range(turns):
            pass
        bench.end()


# -- sockets -----------------------------------------------------------------------------------


def test_a_handler_that_another_has_removed_is_not_called(bench: Bench) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def handle(fd: int, _events: int) -> None:
        called.append(fd)
        for ours, _ in pairs:  # whoever comes first takes the other along
            bench.loop.remove_handler(ours.fileno())

    def arm() -> None:
        for ours, theirs in pairs:
            bench.loop.add_handler(ours.fileno(), handle, bench.loop.READ)
            theirs.send(b"x")

    try:
        bench.call(arm)
        eventually(lambda: called)
        bench.call(lambda: None)
        assert len(called) == 1
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
