"""Which bindings match, where that could take long."""

from __future__ import annotations

from neon_mq_connector.testing.embedded.exchange import Binding, Exchange
from neon_mq_connector.testing.embedded.message import Message


def test_a_topic_of_many_hashes_takes_no_time() -> None:
    exchange = Exchange("x", "topic")
    exchange.bindings[Binding("x", "queue", "q", ".".join(["#", "a"] * 40) + ".b", {})] = None
    assert not exchange.matching(Message("x", ".".join("a" * 120), b"\0\0", b""))
