"""Services to ask, and loops to ask from."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from neon_mq_connector import AsyncMQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.integration.conftest import SERVICE, Asked, run
from tests.support.configurations import PATIENT
from tests.support.loops import arun, pytest_pyfunc_call

__all__ = ["arun", "pytest_pyfunc_call"]


@pytest.fixture
def asked(asked: Asked) -> Asked:
    """A service on threads, which runs."""
    run(asked)
    return asked


@pytest.fixture
def make_async(mq_config: dict[str, Any], vhost: str) -> Callable[..., Any]:
    """Make connectors for the test's virtual host; keyword arguments go into the configuration."""

    def make(cls: type[AsyncMQConnector] = AsyncMQConnector, **config: Any) -> AsyncMQConnector:
        connector = cls({**mq_config, **PATIENT, **config}, SERVICE)
        connector.vhost = vhost
        return connector

    return make


class AsyncAsked(AsyncMQConnector):
    """Answers when it may, and knows what ran at a time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.running = 0
        self.most = 0
        self.threads: set[int] = set()

    async def square(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.threads.add(threading.get_ident())
        request = b64_to_dict(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.may_answer.wait()
            await self.send_message(
                {"square": request["n"] ** 2, "message_id": request["message_id"]},
                queue=request["routing_key"],
            )
        finally:
            self.running -= 1

    def consume(self) -> AsyncAsked:
        self.register_consumer("square", self.vhost, "square", self.square)
        return self


@contextlib.asynccontextmanager
async def running(connector: Any, **options: Any) -> AsyncIterator[Any]:
    """Run a connector with nothing but its consumers."""
    options = {"run_sync": False, "run_observer": False, "mq_timeout": 120, **options}
    await connector.run(**options)
    try:
        yield connector
    finally:
        await connector.stop()


def has_ended(connector: Any) -> bool:
    """Whether a connector does not run and has left no thread."""
    return not connector.started and not own_threads(connector)


def own_threads(connector: Any) -> list[str]:
    """Name the threads that live only as long as the connector."""
    vhost = connector.vhost
    names = {
        f"mq-io:{vhost}",
        f"mq-publisher:{vhost}",
        f"mq-watch:{SERVICE}",
        f"mq-await:{SERVICE}",
        f"mq-run:{SERVICE}",
        *connector.consumers,
    }
    return [each.name for each in threading.enumerate() if each.name in names]
