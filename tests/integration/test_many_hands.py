"""Everything public may be called from any thread, at the same time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.conftest import MakeConnector


@pytest.mark.parametrize("seed", range(3))
def test_running_and_stopping_from_many_threads_at_once_raises_nothing(
    make_connector: MakeConnector, seed: int
) -> None:
    connector = make_connector()
    connector.observe_period = connector.sync_period = 0.05
    for number in range(3):
        connector.register_consumer(f"c{number}", connector.vhost, f"q{number}", print)
    deeds: list[Callable[[], object]] = [
        lambda: connector.run(mq_timeout=5),
        connector.run_consumers,
        lambda: connector.restart_consumer("c1"),
        connector.observe_consumers,
        connector.stop,
        connector.check_health,
    ]
    end = time.monotonic() + 1.5

    def work(number: int) -> None:
        choose = random.Random(seed * 10 + number)
        while time.monotonic() < end:
            choose.choice(deeds)()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(6)]:
            each.result(120)
    connector.stop()
    connector.run(run_sync=False)
    assert connector.check_health(), connector.health().reasons
