"""What tests of the embedded broker ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from neon_mq_connector.testing import EmbeddedBroker


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """An embedded broker of the test's own."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def open_channel(embedded: EmbeddedBroker) -> Iterator[Callable[..., BlockingChannel]]:
    """Open channels, each on a connection of its own; arguments as for pika's parameters."""
    opened: list[pika.BlockingConnection] = []

    def open_one(**options: Any) -> BlockingChannel:
        parameters = pika.URLParameters(embedded.url())
        for name, value in options.items():
            setattr(parameters, name, value)
        opened.append(pika.BlockingConnection(parameters))
        return opened[-1].channel()

    yield open_one
    for connection in opened:
        with contextlib.suppress(AMQPError):  # the broker may have closed it
            connection.close()


@pytest.fixture
def messages(open_channel: Callable[..., BlockingChannel]) -> BlockingChannel:
    """A channel with the durable queue `work`."""
    channel = open_channel()
    channel.queue_declare("work", durable=True)
    return channel
