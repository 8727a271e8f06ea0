"""A message that always fails is tried a few times, then lies where an operator can see it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from tests.faults.conftest import Start, note
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "failing"
FIRST_DELAY = 0.1


class Picky:
    """A callback that handles everything except messages whose id begins with ``bad``."""

    def __init__(self, ledger: Ledger) -> None:
        self.tries: dict[str, list[float]] = {}
        self._note = note(ledger)

    def __call__(self, channel: Any, method: Any, properties: Any, body: Any) -> None:
        self.tries.setdefault(properties.message_id, []).append(time.monotonic())
        if properties.message_id.startswith("bad"):
            raise LookupError(f"no such thing as {properties.message_id}")
        self._note(channel, method, properties, body)


@pytest.fixture
def picky(ledger: Ledger) -> Picky:
    return Picky(ledger)


@pytest.mark.one_engine
def test_a_message_that_always_raises_is_tried_three_times_and_parked(
    start: Start, service: MQConnector, picky: Picky, peer: Peer
) -> None:
    peer.declare(QUEUE)
    bad = peer.send(QUEUE, 1, prefix="bad")
    good = peer.send(QUEUE, 20, prefix="good")
    start(
        QUEUE,
        picky,
        retry=Retry(attempts=3, backoff=ExponentialBackoff(first=FIRST_DELAY)),
    )
    peer.wait_until_handled(good)
    eventually(lambda: peer.counts(QUEUE + DEAD) == (1, 0), what="the message is parked")
    peer.wait_until_settled(QUEUE)
    first, second, third = picky.tries["bad0"]
    assert second - first >= FIRST_DELAY
    assert third - second >= 2 * FIRST_DELAY
    service.stop()

    ((properties, body),) = peer.take_all(QUEUE + DEAD)
    assert (properties.message_id, body) == ("bad0", b"bad0")
    assert properties.headers["neon-attempts"] == 3
    assert properties.headers["neon-queue"] == QUEUE
    assert "no such thing as bad0" in properties.headers["neon-error"]
    assert "__call__" in properties.headers["neon-traceback"]
    account = peer.ledger.close(parked=bad)
    account.check()
    assert account.repeated == 0


def test_what_is_held_for_another_try_holds_up_no_other_and_is_not_lost(
    start: Start, service: MQConnector, picky: Picky, peer: Peer, proxy: Any
) -> None:
    peer.declare(QUEUE)
    bad = peer.send(QUEUE, 5, prefix="bad")
    start(
        QUEUE, picky, retry=Retry(attempts=3, backoff=ExponentialBackoff(first=3600, ceiling=3600))
    )
    eventually(lambda: len(picky.tries) == 5, what="each was tried once")
    peer.wait_until_handled(peer.send(QUEUE, 20, prefix="good"))
    proxy.reset()
    eventually(
        lambda: [len(picky.tries[each]) for each in bad] == [2] * 5,
        what="each came again and was tried again",
    )
    service.stop()
    account = peer.close_the_books(QUEUE)
    assert sorted(account.ready) == bad
