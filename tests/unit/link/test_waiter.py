"""One answer from one thread to another."""

from __future__ import annotations

import threading

import pytest

from neon_mq_connector.errors import WaitTimeoutError
from neon_mq_connector.link.waiter import Waiter


@pytest.mark.parametrize("_round", range(50))
def test_an_answer_that_races_with_the_timeout_is_either_taken_or_refused(_round: int) -> None:
    waiter: Waiter[int] = Waiter()
    accepted: list[bool] = []
    answering = threading.Thread(target=lambda: accepted.append(waiter.resolve(7)))
    answering.start()
    try:
        taken = waiter.wait(0.0001, "it") == 7
    except WaitTimeoutError:
        taken = False
    answering.join(30.0)
    assert accepted == [taken]
