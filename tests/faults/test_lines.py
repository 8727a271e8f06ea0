"""The line between a service and its broker breaks, stalls, crawls, and comes back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import BREAKS, HEARTBEAT, Start, note, register, run
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.nodes import crash
from tests.support.polling import eventually, never
from tests.support.publishing import Senders

QUEUE = "lines"


@pytest.fixture
def consuming(start: Start, service: MQConnector, ledger: Ledger, peer: Peer) -> MQConnector:
    """A service that handles what comes, and has handled something."""
    start(QUEUE, note(ledger))
    peer.wait_until_handled(peer.send(QUEUE, 5, prefix="before"))
    return service


def _back_and_nothing_lost(service: MQConnector, peer: Peer) -> None:
    peer.wait_until_settled(QUEUE)
    eventually(service.check_health)
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert set(account.handled) == account.sent


def test_a_broken_line_is_replaced_and_nothing_is_lost(
    consuming: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    for kind, break_it in BREAKS.items():
        before = proxy.accepted
        break_it(proxy)
        peer.wait_until_handled(peer.send(QUEUE, 50, prefix=kind))
        eventually(lambda: proxy.accepted > before, what=f"a line after {kind}")  # noqa: B023
    _back_and_nothing_lost(consuming, peer)


@pytest.mark.one_engine
def test_a_line_that_swallows_everything_is_given_up_after_two_heartbeats(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
) -> None:
    service = make_service(heartbeat=HEARTBEAT)
    register(service, QUEUE, note(ledger), **engine)
    run(service)
    assert proxy.blackhole() > 0
    thread = service.consumers["it"]
    ids = peer.send(QUEUE, 20, prefix="swallowed")
    eventually(
        lambda: thread.consumer.recoveries > 0 and thread.is_consuming,
        what="it consumes on another connection",
    )
    # the broker, which hears nothing either, still deals some messages to the dead connection
    fresh: list[str] = []

    def one_is_handled() -> bool:
        fresh.extend(peer.send(QUEUE, 2, prefix="fresh"))
        return bool(set(fresh) & peer.ledger.handled_ids)

    eventually(one_is_handled)
    peer.wait_until_handled(ids + fresh)
    _back_and_nothing_lost(service, peer)


@pytest.mark.one_engine
def test_a_slow_line_is_not_taken_for_a_dead_one(
    consuming: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    proxy.delay(0.2)
    ids = peer.send(QUEUE, 20, prefix="delayed")
    peer.wait_until_handled(ids)
    proxy.restore()
    proxy.throttle(2_000)
    ids = peer.send(QUEUE, 20, prefix="throttled")
    peer.wait_until_handled(ids)
    proxy.restore()
    assert consuming.consumers["it"].consumer.recoveries == 0
    _back_and_nothing_lost(consuming, peer)


def test_a_loss_during_a_long_callback_shows_in_health_at_once(
    start: Start,
    service: MQConnector,
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
    release: threading.Event,
) -> None:
    running = threading.Event()

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        running.set()
        release.wait(120)
        ledger.handled(properties.message_id)

    start(QUEUE, callback)
    ids = peer.send(QUEUE, 3)
    assert running.wait(120)
    proxy.refuse()
    proxy.reset()
    eventually(lambda: not service.check_health(), what="health tells of the loss")
    proxy.restore()
    release.set()
    peer.wait_until_handled(ids)
    _back_and_nothing_lost(service, peer)


# -- a quorum queue counts deliveries, and drops what was delivered too often ----------------------


RECONNECTS, LIMIT = 6, 4
PREFETCHED = 20


@pytest.mark.one_engine
def test_more_reconnects_than_deliveries_are_allowed_lose_none_and_park_none_unseen(
    start: Start, service: MQConnector, peer: Peer, proxy: FaultProxy, release: threading.Event
) -> None:
    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        release.wait(120)
        peer.ledger.handled(properties.message_id)

    start(
        QUEUE,
        callback,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": LIMIT},
        prefetch_count=PREFETCHED,
        concurrency=4,  # all of them busy throughout
    )
    thread = service.consumers["it"]
    ids = peer.send(QUEUE, PREFETCHED)
    for number in range(RECONNECTS):
        eventually(
            lambda: thread.is_consuming and sum(peer.counts(QUEUE)) > 0,
            what=f"messages are there after {number} reconnects",
        )
        proxy.reset()
        eventually(lambda: thread.consumer.recoveries > number, what="the loss is seen")  # noqa: B023
    release.set()
    parked: list[str] = []

    def all_are_found() -> bool:
        parked.extend(peer.ids_in(QUEUE + DEAD))
        return peer.ledger.handled_ids | set(parked) >= set(ids)

    eventually(all_are_found, what="each is handled or parked")
    service.stop()
    peer.ledger.close(parked=parked).check()


# -- the broker goes, and the clock jumps ----------------------------------------------------------


@pytest.mark.one_engine
@pytest.mark.own_broker
def test_a_broker_that_goes_and_comes_back_costs_no_message(
    start: Start, ledger: Ledger, broker: PrivateBroker, peer: Peer
) -> None:
    service = start(QUEUE, note(ledger))
    with Senders(service, ledger, QUEUE) as senders:
        eventually(lambda: len(ledger.handled_ids) > 50, what="messages flow")
        crash(broker)
        eventually(lambda: not service.check_health(), what="health tells of the outage")
        broker.start()
        # the outage lasts about as long as the node takes to start
        eventually(service.check_health, what="the service consumes again")
        handled = len(ledger.handled_ids)
        eventually(lambda: len(ledger.handled_ids) > handled + 50, what="messages flow again")
    assert all(isinstance(error, PublishError) for error in senders.errors), senders.errors[:3]
    peer.wait_until_settled(QUEUE)
    service.stop()
    peer.close_the_books(QUEUE)


DAY = 86_400.0


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the wall clock gives another day, before and after the true one."""
    true_time = time.time
    offsets = itertools.cycle([30 * DAY, -30 * DAY, 0.0, DAY, -DAY])
    monkeypatch.setattr(time, "time", lambda: true_time() + next(offsets))


@pytest.mark.one_engine
def test_a_wall_clock_that_jumps_disturbs_neither_heartbeats_nor_retries_nor_sending(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    peer: Peer,
    jumping_clock: None,
) -> None:
    service = make_service(heartbeat=8)
    tries: list[float] = []

    def failing(channel: Any, method: Any, properties: Any, body: Any) -> None:
        tries.append(time.monotonic())
        raise ValueError("always")

    backoff = ExponentialBackoff(first=0.2)
    register(service, "bad", failing, retry=Retry(attempts=3, backoff=backoff), **engine)
    run(service)
    peer.send("bad", 1, prefix="bad")
    with Senders(service, ledger, QUEUE) as senders:
        senders.wait_for(20)
        eventually(lambda: peer.counts("bad" + DEAD) == (1, 0), what="the bad one is parked")
    # longer than until it is asked whether a connection is silent
    never(lambda: not service.check_health(), during=5.0, what="a connection is lost")
    assert senders.errors == []
    assert tries[1] - tries[0] >= 0.2
    assert tries[2] - tries[1] >= 0.4
    assert service.consumers["it"].consumer.recoveries == 0
    service.stop()
    peer.close_the_books(QUEUE, "bad")
