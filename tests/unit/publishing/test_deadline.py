"""A message sent has one time: what a declare has used up its confirm does not get."""

from __future__ import annotations

import time
from typing import Any

import pytest

from neon_mq_connector.errors import PublishTimeoutError, WaitTimeoutError
from neon_mq_connector.link import EncodedProperties, Waiter
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination
from tests.unit.fakes import FakeControl, FakeLink, make_publisher

ENCODED = EncodedMessage("1", b"{}", EncodedProperties(b"\0\0"))


@pytest.mark.parametrize("kind, queue", [("direct", "q"), ("fanout", ""), ("fanout", "q")])
@pytest.mark.parametrize("timeout", [1.0, 3.0])
def test_all_steps_of_a_message_share_its_time(
    monkeypatch: pytest.MonkeyPatch, kind: str, queue: str, timeout: float
) -> None:
    now = 1_000.0

    def take_two_seconds(*_: Any, timeout: float, **__: Any) -> None:
        nonlocal now
        now += min(timeout, 2.0)
        if timeout < 2.0:
            raise WaitTimeoutError("no answer")

    control = FakeControl()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(control, "perform", take_two_seconds)
    monkeypatch.setattr(
        Waiter, "wait", lambda _self, timeout, _what: take_two_seconds(timeout=timeout)
    )
    publisher = make_publisher(FakeLink(), control)
    message = Destination("e", queue, kind).message(ENCODED)
    with pytest.raises(PublishTimeoutError) as caught:
        publisher.publish(message, timeout=timeout)
    assert caught.value.may_have_arrived is (timeout > 2.0)
    assert now == 1_000.0 + timeout
