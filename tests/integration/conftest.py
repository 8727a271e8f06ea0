"""Connectors and clients that end with their test, and what the broker says about them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.client import RequestClient
from neon_mq_connector.config import MQSettings
from neon_mq_connector.connections import Connections
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.utils.network_utils import dict_to_b64
from tests.support.configurations import PATIENT
from tests.support.polling import eventually

MakeConnector = Callable[..., MQConnector]
Serve = Callable[..., MQConnector]
Queues = Callable[[], set[str]]
DropConnections = Callable[[str], int]
SERVICE = "test_service"


@pytest.fixture
def make_connector(
    mq_config: dict[str, Any], vhost: str, endings: contextlib.ExitStack
) -> MakeConnector:
    """Make connectors for the test's virtual host; keyword arguments go into the configuration."""

    def make(cls: type[MQConnector] = MQConnector, **config: Any) -> MQConnector:
        connector = cls({**mq_config, **PATIENT, **config}, SERVICE)
        connector.vhost = vhost
        endings.callback(connector.stop)
        return connector

    return make


def run(connector: MQConnector) -> MQConnector:
    """Run a connector with nothing but its consumers."""
    connector.run(run_sync=False, run_observer=False, mq_timeout=120)
    return connector


def consume(
    connector: MQConnector, callback: Any, *on_error: Any, queue: str = "q", **options: Any
) -> MQConnector:
    """Run a connector with one consumer, named "c"."""
    connector.register_consumer("c", connector.vhost, queue, callback, *on_error, **options)
    return run(connector)


@pytest.fixture
def serve(make_connector: MakeConnector, engine: dict[str, Any]) -> Serve:
    """Do what `consume` does with a new connector, by each engine; ``settings`` are its own."""

    def serve(callback: Any, *on_error: Any, settings: Any = None, **options: Any) -> MQConnector:
        connector = make_connector(**(settings or {}))
        return consume(connector, callback, *on_error, **options, **engine)

    return serve


@pytest.fixture
def client(
    connection_params: pika.ConnectionParameters, endings: contextlib.ExitStack
) -> RequestClient:
    """A request client of the test's own."""
    client = RequestClient([connection_params], owner="tests")
    endings.callback(client.close)
    return client


@pytest.fixture
def connections(
    connection_params: pika.ConnectionParameters, endings: contextlib.ExitStack
) -> Connections:
    """The connections that a connector would have."""
    connections = Connections([connection_params], owner="tests")
    endings.callback(connections.close, 120)
    return connections


def watch_over(connector: MQConnector, period: float = 5.0, **settings: float) -> LivenessWatch:
    """Make a watch that looks when the test says so, in place of the connector's own."""
    own = connector._mq_core.consumers.watch
    if own is not None:
        own.cancel()  # or it would find and mend what the test waits for
    return LivenessWatch(
        "test-watch", MQSettings.from_config(settings), lambda: connector.consumers, period
    )


def complaint(watch: LivenessWatch) -> str:
    """Have a watch look, and return what it says of the consumer "c"."""
    watch.look()
    return watch.complaints.get("c", "")


class Seen:
    """What callbacks were handed, in order, by any thread."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.redelivered: list[bytes] = []
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()

    def __call__(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        with self._lock:
            self.bodies.append(body)
            if method.redelivered:
                self.redelivered.append(body)

    def on_error(self, _thread: Any, error: BaseException) -> None:
        self.errors.append(error)

    def wait_for(self, count: int) -> list[bytes]:
        """Wait until so many have come."""
        eventually(lambda: len(self.bodies) >= count, what=f"{count} messages handled")
        return list(self.bodies)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def put(channel: BlockingChannel, queue: str, *bodies: bytes, declare: bool = True) -> None:
    """Put messages into a durable queue, as a peer on plain pika does."""
    if declare:
        channel.queue_declare(queue, durable=True)
    for body in bodies:
        channel.basic_publish("", queue, body)


def messages_in(channel: BlockingChannel, queue: str) -> int:
    """Say how many messages are ready in a queue."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


@pytest.fixture
def queues(broker: RunningBroker, vhost: str) -> Queues:
    """Return the names of the queues that there are."""
    return lambda: {queue["name"] for queue in broker.list_queues(vhost)}


@pytest.fixture
def drop_connections(broker: RunningBroker, vhost: str) -> DropConnections:
    """End the connections of one purpose from the broker's side, as an operator does."""

    def find(purpose: str) -> list[str]:
        return [
            row["name"]
            for row in broker.management.connections(vhost)
            if str(row.get("client_properties", {}).get("connection_name", "")).endswith(purpose)
        ]

    def drop(purpose: str) -> int:
        names = eventually(lambda: find(purpose), what=f"a connection for {purpose}")
        for name in names:
            broker.management.close_connection(name)
        return len(names)

    return drop


class Asked(MQConnector):
    """Answers in each way that there is, when it may."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.parts_sent = threading.Event()

    @create_mq_callback()
    def square(self, body: dict[str, Any]) -> dict[str, Any]:
        self.may_answer.wait(120)
        return {"square": body["n"] ** 2}

    @create_mq_callback()
    def count(self, body: dict[str, Any]) -> None:
        self.publish_many(parts_of(body), queue=body["routing_key"])
        self.parts_sent.set()


def parts_of(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    to = request["to"]
    for n in range(to):
        yield {"n": n, "message_id": request["message_id"], "is_final": n == to - 1}


@pytest.fixture
def asked(make_connector: MakeConnector) -> Asked:
    """A service on threads that is registered and does not run yet."""
    service = make_connector(Asked)
    assert isinstance(service, Asked)
    service.register_consumer("square", service.vhost, "square", service.square)
    service.register_consumer("count", service.vhost, "count", service.count)
    return service


def count_like_old_services(channel: BlockingChannel, request: dict[str, Any]) -> None:
    if request.get("declares"):
        channel.queue_declare(queue=request["routing_key"])
    for part in parts_of(request):
        channel.basic_publish("", request["routing_key"], dict_to_b64(part))
