"""What the compatibility tests share: configurations, observers, connectors that get stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.connector import ConsumerThread
from neon_mq_connector.consumers import SelectConsumerThread
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils import client_utils, connection_utils
from tests.contract.configurations import SERVICE, make_config
from tests.contract.peer import Errors, Peer
from tests.support.nodes import free_port


@pytest.fixture
def config(make_mq_config: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    # tests of what does not expire, nor end too early, are slow at times
    return make_mq_config(SERVICE, message_expiration=600_000, stop_timeout=120)


@pytest.fixture
def dead_config() -> dict[str, Any]:
    """A configuration in which nothing listens on the broker's port."""
    return make_config("127.0.0.1", free_port(), "guest", "guest")


@pytest.fixture
def peer(connection_params: pika.ConnectionParameters) -> Iterator[Peer]:
    peer = Peer(connection_params)
    yield peer
    peer.close()


@pytest.fixture
def proxy(broker: Any, vhost: str) -> Iterator[FaultProxy]:
    """A line to the broker that can be cut; closed before the virtual host is looked over."""
    with FaultProxy(broker.port) as proxy:
        yield proxy


@pytest.fixture
def errors() -> Errors:
    return Errors()


@pytest.fixture
def connect(
    config: dict[str, Any], vhost: str, endings: contextlib.ExitStack
) -> Callable[..., Any]:
    """Build connectors for the test's virtual host; they are stopped at the end of the test.

    The first argument may be a subclass; `config` and `service_name` may be given by keyword.
    """
    default = config

    def build(
        cls: Any = MQConnector,
        *,
        config: dict[str, Any] | None = None,
        service_name: str = SERVICE,
        own_vhost: str | None = None,
    ) -> Any:
        connector = cls(config if config is not None else default, service_name)
        connector.vhost = vhost if own_vhost is None else own_vhost
        endings.callback(connector.stop)
        return connector

    return build


@pytest.fixture
def run(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Run a connector with only what the test needs: no periodic sync, no observer."""

    def start(connector: Any, **kwargs: Any) -> Any:
        options: dict[str, Any] = {"run_sync": False, "run_observer": False, "mq_timeout": 120}
        connector.run(**{**options, **kwargs})
        return connector

    return start


@pytest.fixture(params=["threaded", "select"])
def consumer_class(request: pytest.FixtureRequest) -> Any:
    """Each class of consumer threads."""
    return {"threaded": ConsumerThread, "select": SelectConsumerThread}[request.param]


@pytest.fixture
def consumer_thread(
    consumer_class: Any,
    connection_params: pika.ConnectionParameters,
    endings: contextlib.ExitStack,
) -> Callable[..., Any]:
    """Construct consumer threads directly; they are joined at the end of the test."""

    def build(queue: str, callback: Any, *args: Any, **kwargs: Any) -> Any:
        thread = consumer_class(
            kwargs.pop("connection_params", connection_params), queue, callback, *args, **kwargs
        )

        def end() -> None:
            if thread.ident is not None:
                thread.join(120.0)

        endings.callback(end)
        return thread

    return build


@pytest.fixture
def client_config(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Point `send_mq_request` at the broker the way callers do: by replacing a module global."""
    monkeypatch.setattr(client_utils, "_default_mq_config", config)
    return config


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Replace the backoff of `retry`, as test suites of services do; returns the calls of it."""
    calls: list[tuple[Any, Any]] = []

    def get_timeout(*args: Any, **kwargs: Any) -> float:
        calls.append((args, kwargs))
        return 0.0

    monkeypatch.setattr(connection_utils, "get_timeout", get_timeout)
    return calls
