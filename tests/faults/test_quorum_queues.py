"""A quorum queue counts deliveries, and drops what was delivered too often; nobody may notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import Start
from tests.faults.peer import Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "counted"
RECONNECTS, LIMIT = 6, 4
PREFETCHED = 20


class Rounds:
    """Callbacks that last until the round is over, that is, until their connection was lost."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed = threading.Condition()
        self._number = 0
        self._released = False

    def __call__(self, channel: Any, method: Any, properties: Any, body: Any) -> None:
        with self._changed:
            mine = self._number
            self._changed.wait_for(lambda: self._released or self._number != mine, timeout=120)
        self._ledger.handled(properties.message_id)

    def next(self) -> None:
        """End the callbacks of this round."""
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def release(self) -> None:
        """End all callbacks, and let those that follow return at once."""
        with self._changed:
            self._released = True
            self._changed.notify_all()


@pytest.fixture
def rounds(ledger: Ledger) -> Iterator[Rounds]:
    rounds = Rounds(ledger)
    yield rounds
    rounds.release()


@pytest.mark.parametrize(
    "concurrency,callbacks_end",
    [
        pytest.param(1, True, id="one-at-a-time"),
        pytest.param(4, False, id="all-workers-busy-throughout"),
    ],
)
def test_more_reconnects_than_deliveries_are_allowed_lose_none_and_park_none_unseen(
    start: Start,
    concurrency: int,
    callbacks_end: bool,
    service: MQConnector,
    peer: Peer,
    proxy: FaultProxy,
    rounds: Rounds,
) -> None:
    start(
        QUEUE,
        rounds,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": LIMIT},
        prefetch_count=PREFETCHED,
        concurrency=concurrency,
    )
    thread = service.consumers["it"]
    ids = peer.send(QUEUE, PREFETCHED)

    def all_done() -> bool:
        return len(peer.ledger.handled_ids) == PREFETCHED and peer.counts(QUEUE) == (0, 0)

    for number in range(RECONNECTS):
        eventually(
            lambda: all_done() or (thread.is_consuming and sum(peer.counts(QUEUE)) > 0),
            what=f"messages are there after {number} reconnects",
        )
        if all_done():
            break
        before = thread.consumer.recoveries
        proxy.reset()

        def is_seen(before: int = before) -> bool:
            if callbacks_end:
                rounds.next()  # each time: another may have begun before the loss was known
            return bool(thread.consumer.recoveries > before)

        eventually(is_seen, what="the loss is seen")
    eventually(lambda: thread.is_consuming, what="it consumes at the end")
    rounds.release()
    peer.wait_until_settled(QUEUE)
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert set(ids) == set(account.handled) | set(account.parked)
