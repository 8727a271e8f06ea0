"""What is kept of messages that failed, and parked when the consumer ends."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

from neon_mq_connector.connections import ConnectionPolicy
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import Host
from neon_mq_connector.link import Answer
from neon_mq_connector.topology import Queue
from tests.unit.fakes import make_delivery, make_received

MANY = 100


class SlowPublisher:
    """Confirms the first message, and of the others none before all are there."""

    def __init__(self) -> None:
        self.answers: list[Answer[None]] = []

    def post(self, _message: Any, answer: Answer[None], *_: Any) -> None:
        self.answers.append(answer)
        if len(self.answers) in (1, MANY):
            for each in self.answers:
                each.resolve(None)


def test_what_a_stop_has_cancelled_is_parked_together() -> None:
    publisher = SlowPublisher()
    host = SimpleNamespace(
        registration=Registration(Queue("q"), dead_queue="q.dead"),
        connections=SimpleNamespace(policy=ConnectionPolicy(), publisher=publisher, vhost="/v"),
        call_soon=lambda _call: None,
    )
    failures = FailurePolicy(cast(Host, host))
    failures.stop_holding()
    for tag in range(MANY):
        failures.failed_acknowledged(make_received(make_delivery(tag)), LookupError())
    failures.release(time.monotonic() + 120.0)
    assert failures.parked == MANY
    assert failures.held == 0
