"""Which hooks of a `SelectConsumerThread` are called, with what, and when an outage is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pika
import pytest

from neon_mq_connector.consumers import SelectConsumerThread
from neon_mq_connector.consumers.observer import ConsumerObserver
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    MQError,
    TopologyError,
)

DOWN = BrokerUnreachableError("down")
LOST = ConnectionLostError("lost")
OF_THE_CONNECTION: list[MQError] = [DOWN, LOST, AuthenticationError("no")]
NOT_OF_THE_CONNECTION: list[MQError] = [
    MQError("the queue was deleted"),
    TopologyError("refused"),
    ChannelShutError("closed by the broker"),
]


class FakeSession:
    connection = "the connection"
    channel = "the channel"


SESSION = cast(Session, FakeSession())


@pytest.fixture
def thread() -> SelectConsumerThread:
    return SelectConsumerThread(pika.ConnectionParameters(), "q", print)


@pytest.fixture
def hooks(thread: SelectConsumerThread) -> ConsumerObserver:
    return thread._make_observer()


def listen(thread: Any, name: str) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    setattr(thread, name, lambda *arguments: calls.append(arguments))
    return calls


def test_the_hooks_get_what_pika_gives(
    thread: SelectConsumerThread, hooks: ConsumerObserver
) -> None:
    connected, opened = listen(thread, "on_connected"), listen(thread, "on_channel_open")
    failed, closed = listen(thread, "on_connection_fail"), listen(thread, "on_close")
    hooks.attempt_failed(DOWN)
    hooks.opened(SESSION)
    hooks.closed(SESSION, LOST)
    assert connected == [("the connection",)]
    assert opened == [("the channel",)]
    assert failed == [(None, DOWN)]
    assert closed == [("the connection", LOST)]


@pytest.mark.parametrize(
    "make, got",
    [
        (lambda calls: lambda: calls.append(()), ()),
        (lambda calls: lambda a: calls.append((a,)), ("the connection",)),
        (lambda calls: lambda a, b, c=1: calls.append((a, b, c)), ("the connection", LOST, 1)),
        (lambda calls: lambda *a, **k: calls.append((*a, k)), ("the connection", LOST, {})),
        (lambda calls: lambda *, more=(): calls.append(more), ()),
        (lambda calls: calls.append, "the connection"),
    ],
)
def test_a_hook_is_given_as_much_as_it_takes(
    thread: Any, hooks: ConsumerObserver, make: Callable[[list[Any]], Any], got: Any
) -> None:
    calls: list[Any] = []
    thread.on_close = make(calls)
    hooks.closed(SESSION, LOST)
    assert calls == [got]


@pytest.mark.parametrize("error", [ValueError("kaput"), SystemExit(1), TypeError("inside")])
def test_what_a_hook_raises_is_logged(
    thread: Any,
    hooks: ConsumerObserver,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    thread.on_connected = fail
    opened = listen(thread, "on_channel_open")
    hooks.opened(SESSION)
    assert len(opened) == 1
    (record,) = caplog.records
    assert "on_connected" in record.getMessage()
    assert thread.name in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_hook_that_is_none_is_logged_too(
    thread: Any, hooks: ConsumerObserver, caplog: pytest.LogCaptureFixture
) -> None:
    thread.on_close = None
    hooks.closed(SESSION, LOST)
    assert "on_close" in caplog.text


@pytest.mark.parametrize("limit, failures_told", [(0, 1), (1, 1), (3, 3)])
def test_an_outage_is_told_after_the_attempts_and_they_are_no_longer(
    thread: SelectConsumerThread, hooks: ConsumerObserver, limit: int, failures_told: int
) -> None:
    failed = listen(thread, "on_connection_fail")
    thread.max_connection_failed_attempts = limit
    assert hooks.is_to_be_told(LOST) is (limit == 0)
    told = []
    for _ in range(5):
        hooks.attempt_failed(DOWN)
        told.append(hooks.is_to_be_told(DOWN))
    assert told == [number >= limit for number in range(1, 6)]
    assert len(failed) == failures_told


def test_each_outage_has_its_own_attempts(
    thread: SelectConsumerThread, hooks: ConsumerObserver
) -> None:
    failed = listen(thread, "on_connection_fail")
    for _ in range(2):
        for _ in range(5):
            hooks.attempt_failed(DOWN)
        hooks.opened(SESSION)
        hooks.closed(SESSION, LOST)
        assert not hooks.is_to_be_told(LOST)
    assert len(failed) == 6


@pytest.mark.parametrize("error", NOT_OF_THE_CONNECTION, ids=lambda error: type(error).__name__)
def test_what_has_nothing_to_do_with_the_connection_is_told_at_once(
    thread: SelectConsumerThread, hooks: ConsumerObserver, error: MQError
) -> None:
    failed = listen(thread, "on_connection_fail")
    hooks.attempt_failed(error)
    assert hooks.is_to_be_told(error)
    assert failed == []
    assert not hooks.is_to_be_told(LOST)  # it was no attempt to connect that failed


@pytest.mark.parametrize("error", OF_THE_CONNECTION, ids=lambda error: type(error).__name__)
def test_what_keeps_it_from_connecting_counts(
    thread: SelectConsumerThread, hooks: ConsumerObserver, error: MQError
) -> None:
    failed = listen(thread, "on_connection_fail")
    thread.max_connection_failed_attempts = 1
    assert not hooks.is_to_be_told(error)
    hooks.attempt_failed(error)
    assert hooks.is_to_be_told(error)
    assert failed == [(None, error)]
