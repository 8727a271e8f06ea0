"""What the user's own hooks raise is reported, and costs no worker, no consumer and no message."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neon_mq_connector import MQConnector, Retry
from tests.faults.conftest import Start, register, run
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "hooks"
WORKERS = 3


class Odd(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def failing(
    ledger: Ledger, raised: Callable[[], BaseException]
) -> Callable[[Any, Any, Any, Any], None]:
    """Make a callback that raises for each message with a bad id."""

    def callback(_channel: Any, _method: Any, properties: Any, _body: Any) -> None:
        if properties.message_id.startswith("bad"):
            raise raised()
        ledger.handled(properties.message_id)

    return callback


@pytest.fixture(params=[1, WORKERS], ids=["alone", "side-by-side"])
def concurrency(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def works_on(service: MQConnector, peer: Peer) -> Callable[[], None]:
    """See that every worker is still there: as many messages as there are workers are handled."""
    rounds = itertools.count()

    def check() -> None:
        peer.wait_until_handled(peer.send(QUEUE, 3 * WORKERS, prefix=f"good{next(rounds)}-"))
        eventually(service.check_health)
        assert service.consumers["it"].consumer.recoveries == 0

    return check


def told_of(what: str, times: int, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Wait until the log has told so often of something, and return its records."""

    def told() -> list[logging.LogRecord]:
        return [each for each in list(caplog.records) if what in each.getMessage()]

    eventually(lambda: len(told()) == times, what=f"{what!r} is logged {times} times")
    return told()


def test_an_error_handler_that_raises_costs_nothing_but_a_line_in_the_log(
    start: Start,
    concurrency: int,
    ledger: Ledger,
    peer: Peer,
    works_on: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kinds = itertools.cycle([SystemExit, KeyboardInterrupt, Odd])

    def on_error(_thread: Any, error: BaseException) -> None:
        raise type(error)()

    peer.declare(QUEUE)
    start(
        QUEUE,
        failing(ledger, lambda: next(kinds)()),
        on_error,
        concurrency=concurrency,
        ack="on_receipt",
    )
    with caplog.at_level(logging.ERROR):
        peer.send(QUEUE, 2 * WORKERS, prefix="bad")
        eventually(lambda: peer.counts(QUEUE + DEAD) == (2 * WORKERS, 0), what="they are parked")
        told = told_of("its error handler failed", 2 * WORKERS, caplog)
    assert all(each.exc_info for each in told)
    works_on()


class OddBackoff:
    """A backoff with another odd answer for each message."""

    def __init__(self) -> None:
        self.answers: list[Any] = [-1, float("nan"), float("inf"), 1e300, None, "soon"]
        self._errors: Iterator[type[BaseException]] = iter([ValueError, SystemExit])

    def delay(self, attempt: int) -> Any:
        if self.answers:
            return self.answers.pop()
        raise next(self._errors)


def test_a_backoff_that_raises_or_answers_nonsense_gives_way_to_the_default(
    start: Start,
    service: MQConnector,
    concurrency: int,
    ledger: Ledger,
    peer: Peer,
    works_on: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.declare(QUEUE)
    backoff: Any = OddBackoff()
    start(
        QUEUE,
        failing(ledger, lambda: ValueError("bad")),
        concurrency=concurrency,
        retry=Retry(attempts=2, backoff=backoff),
    )
    with caplog.at_level(logging.ERROR):
        peer.send(QUEUE, 8, prefix="bad")
        eventually(lambda: peer.counts(QUEUE + DEAD) == (8, 0), what="all were tried twice")
        told_of("Retry's backoff failed", 8, caplog)
    eventually(lambda: service.health().consumers["it"].failed == 16)
    works_on()


def test_calls_and_close_callbacks_that_exit_end_no_consumer(
    start: Start,
    service: MQConnector,
    concurrency: int,
    ledger: Ledger,
    peer: Peer,
    works_on: Callable[[], None],
) -> None:
    called: list[str] = []

    def leave(*_: Any) -> None:
        called.append("called")
        sys.exit(5)

    def callback(channel: Any, _method: Any, properties: Any, _body: Any) -> None:
        if properties.message_id == "arrange0":
            channel.add_on_close_callback(leave)
            channel.connection.add_callback_threadsafe(leave)
            channel.connection.add_callback_threadsafe(leave)
        ledger.handled(properties.message_id)

    peer.declare(QUEUE)
    start(QUEUE, callback, concurrency=concurrency, ack="on_receipt")
    peer.wait_until_handled(peer.send(QUEUE, 1, prefix="arrange"))
    eventually(lambda: len(called) == 2, what="both calls were made")
    works_on()
    thread = service.consumers["it"]
    service.stop_consumers()
    assert not thread.is_alive()
    assert peer.consumers(QUEUE) == 0
    assert len(called) == 3


# -- what becomes of the loop of coroutines --------------------------------------------------------


def test_a_task_factory_that_raises_fails_the_message_and_not_the_consumer(
    service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    def refuse(_loop: Any, _coroutine: Any, **_: Any) -> Any:
        raise RuntimeError("no tasks today")

    async def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        ledger.handled(properties.message_id)
        if body == b"break0":
            asyncio.get_running_loop().set_task_factory(refuse)

    async def on_error(_thread: Any, _error: BaseException) -> None:
        """Be told as a task, too."""

    peer.declare(QUEUE)
    register(service, QUEUE, callback, on_error, concurrency=1, ack="on_receipt")
    run(service)
    peer.wait_until_handled(peer.send(QUEUE, 1, prefix="break"))
    refused = peer.send(QUEUE, 3, prefix="refused")
    eventually(lambda: peer.counts(QUEUE + DEAD) == (3, 0), what="they are parked")
    loop = service._mq_core.consumers._loop
    assert loop is not None
    loop.call(loop.loop.set_task_factory, None)
    peer.wait_until_handled(peer.send(QUEUE, 3))
    eventually(service.check_health)
    assert not set(refused) & ledger.handled_ids


def test_a_loop_that_ends_is_found_though_nothing_comes_and_replaced(
    service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    async def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        ledger.handled(properties.message_id)

    register(service, QUEUE, callback, ack="on_receipt")
    run(service)
    peer.wait_until_handled(peer.send(QUEUE, 1, prefix="before"))
    ended = service._mq_core.consumers._loop
    assert ended is not None
    ended.stop(5.0)  # as it does when a callback closes it
    watch = service._mq_core.consumers.watch
    assert watch is not None
    watch.look()
    eventually(lambda: service.health().reasons, what="it is found")

    def is_replaced() -> bool:
        service.observe_consumers()
        return service.check_health()

    eventually(is_replaced)
    peer.wait_until_handled(peer.send(QUEUE, 3))
