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

from neon_mq_connector.testing import EmbeddedBroker

EXAMPLES = Path(__file__).parents[3] / "examples" / "javascript"


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
