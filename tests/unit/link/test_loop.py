"""The loop of an I/O thread: no wake-up is lost, timers come in order, faults end nothing."""

from __future__ import annotations

import itertools
import logging
import random
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
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
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def _run(self) -> None:
        try:
            self.loop.start()
        except BaseException as error:
            self.failure = error

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
        assert done.wait(30.0), "it was not called"
        return answers[0]

    def end(self) -> None:
        self.loop.stop()
        if self.thread.is_alive():
            self.thread.join(30.0)
            assert not self.thread.is_alive(), "it does not stop"
        self.loop.close()


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A loop that was not started, and that sleeps for ever if a wake-up is lost."""
    monkeypatch.setattr(loop_module, "_LONGEST_SLEEP", 1_000.0)
    bench = Bench()
    yield bench
    bench.end()


@pytest.fixture
def bench(unstarted: Bench) -> Bench:
    unstarted.thread.start()
    return unstarted


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Have threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


# -- waking ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("round_", range(3))
@pytest.mark.parametrize("how", ["outbox", "callbacks"])
def test_no_wake_up_is_lost_when_many_threads_add_work(bench: Bench, how: str, round_: int) -> None:
    lost: list[int] = []

    def add_and_wait(number: int) -> None:
        chance = random.Random(round_ * 10 + number)
        done = threading.Semaphore(0)
        for _ in range(150):
            count = chance.choice([1, 1, 2, 5])
            for _ in range(count):
                if how == "outbox":
                    bench.add(done.release)
                else:
                    bench.loop.add_callback(done.release)
            # waiting for the last lets the loop go to sleep, or nearly
            for _ in range(count):
                if not done.acquire(timeout=5.0):
                    lost.append(number)
                    return

    threads = [
        threading.Thread(target=add_and_wait, args=(number,), name=f"adds-{number}")
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not lost
    assert not bench.outbox


def test_waking_never_waits_however_often_and_a_closed_loop_is_not_woken() -> None:
    waker = loop_module._Waker()
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


def test_work_that_was_added_before_the_start_is_done(unstarted: Bench) -> None:
    done = threading.Event()
    unstarted.outbox.append(done.set)  # without a wake-up
    unstarted.thread.start()
    assert done.wait(30.0)


def test_work_is_done_in_the_order_in_which_it_came(bench: Bench) -> None:
    seen: list[int] = []
    for number in range(500):
        bench.outbox.append(lambda number=number: seen.append(number))  # type: ignore[misc]
    bench.call(lambda: None)
    assert seen == list(range(500))


class Delays:
    """Stands in for `time.sleep` in the loop: notes each delay, and does something meanwhile."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.meanwhile()


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Delays:
    delays = Delays()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=delays)
    monkeypatch.setattr("neon_mq_connector.link.loop.time", clock)
    return delays


def test_what_comes_during_a_delay_is_read_together(unstarted: Bench, delays: Delays) -> None:
    ours, theirs = socket.socketpair()
    received: list[bytes] = []
    done: list[str] = []
    unstarted.loop.add_handler(
        ours.fileno(), lambda _fd, _events: received.append(ours.recv(100)), Loop.READ
    )

    def meanwhile() -> None:
        for byte in (b"a", b"b", b"c"):
            theirs.sendall(byte)
        unstarted.add(lambda: done.append("handed over meanwhile"))
        assert not done

    delays.meanwhile = meanwhile
    try:
        unstarted.outbox.append(lambda: unstarted.loop.delay_reads(0.0005))
        unstarted.thread.start()
        assert eventually(lambda: done)
        assert received == [b"abc"]
        assert delays.taken == [0.0005]
    finally:
        unstarted.call(lambda: unstarted.loop.remove_handler(ours.fileno()))
        ours.close()
        theirs.close()


def test_a_delay_is_the_longest_asked_for_and_no_longer_than_a_millisecond(
    bench: Bench, delays: Delays
) -> None:
    def ask(*seconds: float) -> None:
        for each in seconds:
            bench.loop.delay_reads(each)

    for seconds in ((0.0003, 0.0007, 0.0005), (5.0,), (0.0001,)):
        bench.call(lambda seconds=seconds: ask(*seconds))  # type: ignore[misc]
    bench.call(lambda: None)
    assert delays.taken == [0.0007, 0.001]  # and none that is too short to be of use


def test_who_waits_is_woken_before_a_delay(bench: Bench, delays: Delays) -> None:
    seen: list[str] = []
    delays.meanwhile = lambda: seen.append("delay")

    def work() -> None:
        bench.loop.delay_reads(0.001)
        bench.loop.call_last(seen.append, "woken")

    bench.call(work)
    bench.call(lambda: None)
    assert seen == ["woken", "delay"]


def test_work_that_adds_work_does_not_keep_timers_waiting(bench: Bench) -> None:
    called = threading.Event()

    def again() -> None:
        if not called.is_set():
            bench.outbox.append(again)

    bench.add(again)
    bench.add(lambda: bench.loop.call_later(0.01, called.set))
    assert called.wait(30.0)


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Set what a signal does."""
    before = signal.getsignal(signal.SIGUSR1)

    def arm(work: Callable[[], None]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: work())

    yield arm
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_add_work_while_its_thread_does(
    bench: Bench, on_signal: Callable[[Callable[[], None]], None]
) -> None:
    main = threading.get_ident()
    by_main, by_signals = threading.Semaphore(0), threading.Semaphore(0)
    lost: list[int] = []
    on_signal(lambda: bench.add(by_signals.release))

    def send_signals() -> None:
        for number in range(200):
            signal.pthread_kill(main, signal.SIGUSR1)
            if not by_signals.acquire(timeout=5.0):
                lost.append(number)
                return

    sending = threading.Thread(target=send_signals, name="signals")
    sending.start()
    while sending.is_alive():
        bench.add(by_main.release)
        assert by_main.acquire(timeout=5.0)
    sending.join(30.0)
    assert not lost


# -- timers ------------------------------------------------------------------------------------


def test_timers_are_called_in_the_order_in_which_they_are_due(bench: Bench) -> None:
    seen: list[float] = []
    delays = [0.05, 0.0, 0.03, 0.01, 0.04, 0.02]

    def arm() -> None:
        for delay in delays:
            bench.loop.call_later(delay, lambda delay=delay: seen.append(delay))  # type: ignore[misc]

    bench.call(arm)
    eventually(lambda: len(seen) == len(delays))
    assert seen == sorted(delays)


def test_timers_that_are_due_at_once_are_called_in_the_order_in_which_they_were_set(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def arm() -> None:
        now = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: now)
            for number in range(50):
                bench.loop.call_later(0.0, lambda number=number: seen.append(number))  # type: ignore[misc]

    bench.call(arm)
    eventually(lambda: len(seen) == 50)
    assert seen == list(range(50))


def test_a_timer_does_not_come_early_and_wakes_the_loop(bench: Bench) -> None:
    came: list[float] = []
    began = time.monotonic()
    bench.add(lambda: bench.loop.call_later(0.05, lambda: came.append(time.monotonic())))
    (at,) = eventually(lambda: came)
    assert at - began >= 0.05


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


def test_a_timer_may_set_itself_again(bench: Bench) -> None:
    rounds = itertools.count()
    enough = threading.Event()

    def tick() -> None:
        if next(rounds) == 5:
            enough.set()
        else:
            bench.loop.call_later(0.001, tick)

    bench.add(tick)
    assert enough.wait(30.0)


# -- faults ------------------------------------------------------------------------------------


def test_an_exception_in_work_is_logged_and_ends_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("as the test says")

    with caplog.at_level(logging.ERROR, logger="neon_mq_connector.link"):
        bench.add(fail)
        assert bench.call(lambda: 7) == 7
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert bench.thread.is_alive()


def test_an_exception_in_a_callback_ends_the_loop_and_is_told(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError("as the test says")

    bench.loop.add_callback(fail)
    bench.thread.join(30.0)
    assert isinstance(bench.failure, ValueError)


# -- stopping ----------------------------------------------------------------------------------


def test_a_stop_before_the_start_is_not_forgotten(unstarted: Bench) -> None:
    unstarted.loop.stop()
    unstarted.thread.start()
    unstarted.thread.join(30.0)
    assert not unstarted.thread.is_alive()


@pytest.mark.parametrize("round_", range(20))
def test_a_stop_from_elsewhere_ends_it_wherever_it_is(unstarted: Bench, round_: int) -> None:
    unstarted.thread.start()
    for _ in range(round_ * 20):
        pass
    unstarted.loop.stop()
    unstarted.thread.join(30.0)
    assert not unstarted.thread.is_alive()


def test_a_stop_in_a_handler_ends_it_and_closing_twice_harms_nobody(bench: Bench) -> None:
    bench.add(bench.loop.stop)
    bench.thread.join(30.0)
    assert not bench.thread.is_alive()
    bench.loop.close()
    bench.loop.close()
    bench.loop.wake()
    bench.loop.hang_up()


# -- sockets -----------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5.0)
    with ours, theirs:
        yield ours, theirs


def test_a_handler_gets_the_events_that_it_asked_for(
    bench: Bench, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    loop = bench.loop
    events: list[int] = []
    came = threading.Semaphore(0)

    def handle(fd: int, event: int) -> None:
        assert fd == ours.fileno()
        events.append(event)
        if event & loop.READ:
            ours.recv(100)
        if event & loop.WRITE:
            loop.update_handler(fd, loop.READ)
        came.release()

    bench.call(lambda: loop.add_handler(ours.fileno(), handle, loop.READ | loop.ERROR))
    theirs.send(b"x")
    assert came.acquire(timeout=5.0)
    bench.call(lambda: loop.update_handler(ours.fileno(), loop.READ | loop.WRITE))
    assert came.acquire(timeout=5.0)
    theirs.send(b"x")
    assert came.acquire(timeout=5.0)
    assert events == [loop.READ, loop.WRITE, loop.READ]
    bench.call(lambda: loop.remove_handler(ours.fileno()))
    theirs.send(b"x")
    bench.call(lambda: None)
    bench.call(lambda: None)
    assert len(events) == 3


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


def test_hanging_up_ends_every_connection_and_leaves_their_owners_the_sockets(
    bench: Bench, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    ends: list[bytes] = []

    def handle(fd: int, _events: int) -> None:
        ends.append(ours.recv(100))
        bench.loop.remove_handler(fd)

    bench.call(lambda: bench.loop.add_handler(ours.fileno(), handle, bench.loop.READ))
    bench.call(bench.loop.hang_up)
    assert theirs.recv(100) == b""
    eventually(lambda: ends)
    assert ends == [b""]
    assert ours.fileno() >= 0
