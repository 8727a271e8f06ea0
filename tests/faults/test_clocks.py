"""The wall clock jumps; nothing in the library may care."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from tests.faults.conftest import register, run
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually, never
from tests.support.publishing import Senders

pytestmark = pytest.mark.one_engine

QUEUE = "clocks"
DAY = 86_400.0


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the wall clock gives another day, before and after the true one."""
    true_time = time.time
    offsets = itertools.cycle([30 * DAY, -30 * DAY, 0.0, DAY, -DAY])
    monkeypatch.setattr(time, "time", lambda: true_time() + next(offsets))


def test_a_wall_clock_that_jumps_disturbs_neither_heartbeats_nor_retries_nor_sending(
    make_service: Callable[..., MQConnector],
    engine: dict[str, Any],
    ledger: Ledger,
    peer: Peer,
    jumping_clock: None,
) -> None:
    service = make_service(heartbeat=1)
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
        # longer than it takes to give up a connection that is silent
        never(lambda: not service.check_health(), during=2.5, what="a connection is lost")
    assert senders.errors == []
    assert tries[1] - tries[0] >= 0.2
    assert tries[2] - tries[1] >= 0.4
    assert service.consumers["it"].consumer.recoveries == 0
    service.stop()
    peer.close_the_books(QUEUE, "bad")
