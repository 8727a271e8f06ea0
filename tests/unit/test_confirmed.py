"""A message sent has one time: what a declare has used up its confirm does not get."""

from __future__ import annotations

import time
from typing import Any

import pytest

from neon_mq_connector.envelope import build_properties
from neon_mq_connector.errors import PublishTimeoutError, WaitTimeoutError
from neon_mq_connector.sending.confirmed import send
from neon_mq_connector.sending.outgoing import Outgoing
from neon_mq_connector.sending.target import Target
from tests.unit.fakes import FakeConnections, as_connections

OUTGOING = Outgoing("1", b"{}", build_properties(message_id="1", content_type="text/plain"))


class SlowBroker:
    """The connections to a broker that takes two seconds for each thing that it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.connections = FakeConnections()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(self.connections.control, "perform", self._take_two_seconds)
        monkeypatch.setattr(
            self.connections.publisher, "publish", self._take_two_seconds, raising=False
        )
        for name, answer in (("knows", False), ("exchange_exists", None)):
            monkeypatch.setattr(
                self.connections.publisher, name, lambda _, a=answer: a, raising=False
            )

    def _take_two_seconds(self, *_: Any, timeout: float) -> None:
        self.now += min(timeout, 2.0)
        if timeout < 2.0:
            raise WaitTimeoutError("no answer")


@pytest.mark.parametrize("kind, queue", [("direct", "q"), ("fanout", ""), ("fanout", "q")])
@pytest.mark.parametrize("timeout", [1.0, 3.0])
def test_all_steps_of_a_message_share_its_time(
    monkeypatch: pytest.MonkeyPatch, kind: str, queue: str, timeout: float
) -> None:
    broker = SlowBroker(monkeypatch)
    with pytest.raises((PublishTimeoutError, WaitTimeoutError), match="no answer"):
        send(
            as_connections(broker.connections),
            Target("e", queue, kind),
            OUTGOING,
            timeout=timeout,
        )
    assert broker.now == 1_000.0 + timeout
