"""Reply queues that requests have named: there as long as somebody uses them."""

from __future__ import annotations

import pytest

from neon_mq_connector.client.reply_queues import NamedQueues
from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.errors import ConnectionLostError, RequestTimeoutError, WaitTimeoutError
from tests.unit.fakes import FakeChannel, FakeConnections, as_channel, as_connections

DECLARED, DELETED = "declaring reply queue 'mine'", "deleting queue 'mine'"


class Bench:
    """Named queues, and the broker."""

    def __init__(self) -> None:
        self.connections = FakeConnections()
        self.queues = NamedQueues(as_connections(self.connections))
        self.spec = RequestSpec.of("q", {"n": 1}, 5.0, WireFormat.LEGACY)

    @property
    def performed(self) -> list[str]:
        return self.connections.control.performed


@pytest.fixture
def it() -> Bench:
    return Bench()


def test_a_queue_that_two_use_is_deleted_by_the_last(it: Bench) -> None:
    channel = FakeChannel()
    first = it.queues.acquire(as_channel(channel), "mine", it.spec)
    second = it.queues.acquire(as_channel(channel), "mine", it.spec)
    it.queues.release(first)
    assert DELETED not in it.performed
    it.queues.release(second)
    assert it.performed == [DECLARED, DECLARED, DELETED]
    assert channel.cancelled == ["tag of mine"] * 2


def test_after_a_loss_it_is_made_anew_while_somebody_holds_the_old_one(it: Bench) -> None:
    lost, fresh = FakeChannel(), FakeChannel()
    old = it.queues.acquire(as_channel(lost), "mine", it.spec)
    lost.shut(ConnectionLostError("lost"))
    new = it.queues.acquire(as_channel(fresh), "mine", it.spec)
    assert fresh.consuming == ["mine"]
    it.queues.release(old)
    assert it.performed == [DECLARED, DECLARED]
    it.queues.release(new)
    assert it.performed[-1] == DELETED


def test_a_queue_that_could_not_be_deleted_is_deleted_with_the_next_one(it: Bench) -> None:
    queue = it.queues.acquire(as_channel(FakeChannel()), "mine", it.spec)
    it.connections.control.refusal = ConnectionLostError("lost")
    it.queues.release(queue)
    it.connections.control.refusal = None
    it.performed.clear()
    it.queues.acquire(as_channel(FakeChannel()), "other", it.spec)
    assert it.performed == [DELETED, "declaring reply queue 'other'"]


def test_a_queue_that_is_not_made_in_time_is_said_to_be_why_nothing_was_sent(it: Bench) -> None:
    it.connections.control.refusal = WaitTimeoutError("no answer")
    with pytest.raises(RequestTimeoutError, match="not sent: no answer"):
        it.queues.acquire(as_channel(FakeChannel()), "mine", it.spec)
    it.connections.control.refusal = None
    it.queues.release(it.queues.acquire(as_channel(FakeChannel()), "mine", it.spec))
    assert it.performed[-1] == DELETED
