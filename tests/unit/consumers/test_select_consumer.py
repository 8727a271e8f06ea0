"""Which hooks of a `SelectConsumerThread` are called, with what, and when an outage is told."""

from __future__ import annotations

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
