"""What tests of the embedded broker ask for."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from pika.spec import BasicProperties

from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.polling import eventually

EXAMPLES = Path(__file__).parents[3] / "examples" / "javascript"


@pytest.fixture
def embedded(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own; its parameter: whether it refuses transient queues."""
    with EmbeddedBroker(refuse_transient=getattr(request, "param", False)) as broker:
        yield broker


@pytest.fixture
def endings(embedded: EmbeddedBroker) -> Iterator[contextlib.ExitStack]:
    """What ends before the broker does."""
    with contextlib.ExitStack() as stack:
        stack.callback(close_shared_clients)
        yield stack


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


def receive(channel: BlockingChannel, queue: str) -> tuple[BasicProperties, bytes]:
    """Wait for a message, and return its properties and body."""
    got: Any = eventually(
        lambda: (got := channel.basic_get(queue, auto_ack=True))[0] and got,
        what=f"a message in {queue}",
    )
    return got[1], got[2]


def pump(channel: BlockingChannel, seconds: float = 120.0) -> None:
    """Let a channel's connection handle what comes, for so long or until it is closed."""
    channel.connection.process_data_events(time_limit=seconds)


def until(channel: BlockingChannel, probe: Callable[[], bool]) -> None:
    """Let a channel's connection handle what comes until something is true."""

    def pumped() -> bool:
        pump(channel, 0.01)
        return probe()

    eventually(pumped)


@pytest.fixture(scope="session")
def node_folder(pytestconfig: pytest.Config, worker_id: str) -> Path:
    """A folder with the examples in JavaScript, and what they need, installed once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    cache = pytestconfig.cache
    assert cache is not None
    folder = cache.mkdir(f"javascript-{worker_id}")
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    if not (folder / "node_modules" / "amqplib").exists():
        install = [npm, "install", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(install, cwd=folder, capture_output=True, timeout=50).returncode:
            pytest.skip("amqplib cannot be installed here")
    return folder
