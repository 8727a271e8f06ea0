"""The line between a service and its broker breaks, stalls, crawls, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import BREAKS, Start, note, register, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "lines"

Break = Callable[[FaultProxy], object]


@pytest.fixture
def consuming(start: Start, service: MQConnector, ledger: Ledger, peer: Peer) -> MQConnector:
    """A service that handles what comes, and has handled something."""
    start(QUEUE, note(ledger))
    peer.wait_until_handled(peer.send(QUEUE, 5, prefix="before"))
    return service


def _back_and_nothing_lost(service: MQConnector, peer: Peer) -> None:
    peer.wait_until_settled(QUEUE)
    assert service.check_health()
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert set(account.handled) == account.sent


@pytest.mark.parametrize("break_it", BREAKS)
def test_a_broken_line_is_replaced_and_nothing_is_lost(
    break_it: Break, consuming: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    before = proxy.accepted
    break_it(proxy)
    ids = peer.send(QUEUE, 50, prefix="after")
    peer.wait_until_handled(ids)
    assert proxy.accepted > before
    _back_and_nothing_lost(consuming, peer)


@pytest.mark.one_engine
def test_a_line_that_swallows_everything_is_given_up_after_two_heartbeats(
    consuming: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    assert proxy.blackhole() > 0
    thread = consuming.consumers["it"]
    ids = peer.send(QUEUE, 20, prefix="swallowed")
    eventually(
        lambda: thread.consumer.recoveries > 0 and thread.is_consuming,
        timeout=30.0,
        what="it consumes on another connection",
    )
    # the broker, which hears nothing either, still deals some messages to the dead connection
    fresh: list[str] = []

    def one_is_handled() -> bool:
        fresh.extend(peer.send(QUEUE, 2, prefix="fresh"))
        return bool(set(fresh) & peer.ledger.handled_ids)

    eventually(one_is_handled)
    peer.wait_until_handled(ids + fresh, timeout=60.0)
    _back_and_nothing_lost(consuming, peer)


@pytest.mark.one_engine
def test_a_network_that_swallows_new_connections_too_is_survived(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
) -> None:
    service = make_service(connect_timeout=1)
    register(service, QUEUE, note(ledger), **engine)
    run(service)
    proxy.blackhole(new=True)
    ids = peer.send(QUEUE, 20, prefix="swallowed")
    eventually(lambda: not service.check_health())
    proxy.restore()
    peer.wait_until_handled(ids)
    _back_and_nothing_lost(service, peer)


@pytest.mark.one_engine
def test_a_slow_line_is_not_taken_for_a_dead_one(
    consuming: MQConnector, proxy: FaultProxy, peer: Peer
) -> None:
    before = proxy.accepted
    proxy.delay(0.2)
    ids = peer.send(QUEUE, 20, prefix="delayed")
    peer.wait_until_handled(ids)
    proxy.restore()
    proxy.throttle(2_000)
    ids = peer.send(QUEUE, 20, prefix="throttled")
    peer.wait_until_handled(ids)
    proxy.restore()
    assert proxy.accepted == before, "a connection was given up that was merely slow"
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
        release.wait(30)
        ledger.handled(properties.message_id)

    start(QUEUE, callback)
    ids = peer.send(QUEUE, 3)
    assert running.wait(30.0)
    proxy.refuse()
    proxy.reset()
    eventually(lambda: not service.check_health(), what="health tells of the loss")
    proxy.restore()
    release.set()
    peer.wait_until_handled(ids)
    _back_and_nothing_lost(service, peer)
