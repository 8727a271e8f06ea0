"""The broker goes and comes back; a consumer thread tells of each step of it through its hooks."""

from __future__ import annotations

import threading
from typing import Any

import pika
import pytest

from neon_mq_connector.consumers import SelectConsumerThread
from neon_mq_connector.testing import PrivateBroker
from tests.faults.peer import Peer
from tests.support.polling import eventually

pytestmark = [pytest.mark.own_broker, pytest.mark.timeout(120)]

QUEUE = "hooked"


class Watched(SelectConsumerThread):
    """Write down which hooks are called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: list[str] = []

    def on_connected(self, *_: Any, **__: Any) -> None:
        self.told.append("connected")

    def on_connection_fail(self, *_: Any, **__: Any) -> None:
        self.told.append("failed")

    def on_channel_open(self, *_: Any, **__: Any) -> None:
        self.told.append("channel")

    def on_close(self, *_: Any, **__: Any) -> None:
        self.told.append("closed")


def test_a_broker_that_goes_and_comes_back_is_told_of_step_by_step(
    broker: PrivateBroker,
    connection_params: pika.ConnectionParameters,
    peer: Peer,
) -> None:
    errors: list[BaseException] = []
    handled = threading.Event()
    peer.declare(QUEUE)
    consumer = Watched(
        connection_params,
        QUEUE,
        lambda *_: handled.set(),
        lambda _thread, error: errors.append(error),
    )
    opened = ["connected", "channel"]
    consumer.start()
    try:
        eventually(lambda: consumer.is_consuming)
        assert consumer.told == opened
        broker.stop()
        eventually(lambda: not consumer.is_consuming, what="the loss is seen")
        eventually(lambda: errors, what="error_func is called")
        assert consumer.is_consumer_alive
        assert consumer.told == [*opened, "closed", *["failed"] * 3]
        broker.start()
        eventually(lambda: consumer.is_consuming, what="it consumes again")
        peer.send(QUEUE, 1)
        assert handled.wait(30.0)
        assert consumer.told[-2:] == opened
    finally:
        consumer.join(30.0)
    assert not consumer.is_alive()
    assert consumer.told == [*opened, "closed", *["failed"] * 3, *opened, "closed"]
    assert len(errors) == 1
