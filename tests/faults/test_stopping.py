"""A stop is quick, lets what runs finish, gives back what did not start, and is final."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import Start, register, run
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "stopping"


def test_a_stop_from_many_threads_and_from_a_callback_is_one_stop(
    start: Start, service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    peer.declare(QUEUE)
    peer.send(QUEUE, 50)
    ready = threading.Barrier(4, timeout=120)

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        if not ledger.handled_ids:
            ready.wait()
            service.stop()
        ledger.handled(properties.message_id)

    def stop() -> None:
        ready.wait()
        service.stop()

    start(QUEUE, callback)
    stoppers = [threading.Thread(target=stop, name=f"stopper-{n}") for n in range(3)]
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join(120)
    assert not any(stopper.is_alive() for stopper in stoppers)
    eventually(lambda: peer.consumers(QUEUE) == 0, what="it has stopped")
    account = peer.close_the_books(QUEUE)
    assert len(account.handled) + len(account.ready) == 50


@pytest.mark.one_engine
@pytest.mark.parametrize("state", ["refused", "swallowed", "cut"])
def test_a_stop_while_the_broker_is_away_ends_and_loses_nothing(
    state: str,
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
) -> None:
    def slow(channel: Any, method: Any, properties: Any, body: Any) -> None:
        time.sleep(0.05)  # the work
        ledger.handled(properties.message_id)

    service = make_service(stop_timeout=2)
    peer.declare(QUEUE)
    peer.send(QUEUE, 50)
    register(service, QUEUE, slow, **engine)
    run(service)
    eventually(lambda: len(ledger.handled_ids) >= 3, what="it works")
    if state == "swallowed":
        proxy.blackhole(new=True)
    else:
        if state == "refused":
            proxy.refuse()
        proxy.reset()
    service.stop()
    proxy.restore()
    account = peer.close_the_books(QUEUE)
    assert len(account.handled | account.ready) == 50
