"""What the scenarios share: brokers that may be broken, a line that may be cut, and the books."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.errors import PublishError
from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker
from neon_mq_connector.testing.proxy import Direction, FaultProxy
from tests.faults.peer import Peer
from tests.support import leaks
from tests.support.accounting import Ledger
from tests.support.configurations import PATIENT
from tests.support.loops import pytest_pyfunc_call
from tests.support.polling import eventually
from tests.support.vhosts import User

__all__ = ["pytest_pyfunc_call"]

SERVICE = "fault_service"
#: Seconds. Short, so that a dead line is noticed while a test waits; for nothing else, since a
#: machine that stands still for so long costs the connection.
HEARTBEAT = 2

#: How a line may be cut under those who publish, and may break at all.
CUTS: dict[str, Callable[[FaultProxy], object]] = {
    "reset": FaultProxy.reset,
    "torn to the client": lambda line: line.tear(Direction.TO_CLIENT),
    "torn to the broker": lambda line: line.tear(Direction.TO_BROKER),
}
BREAKS = {**CUTS, "end of stream": FaultProxy.hang_up}

Start = Callable[..., MQConnector]


@pytest.fixture
def proxy(broker: PrivateBroker, vhost: str) -> Iterator[FaultProxy]:
    """The line between the library and the broker."""
    with FaultProxy(broker.port) as proxy:
        yield proxy
        leaks.close_shared_clients()  # while there is a line on which to say good-bye


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def peer(
    connection_params: pika.ConnectionParameters, broker: PrivateBroker, ledger: Ledger
) -> Peer:
    return Peer(connection_params, broker, ledger)


@pytest.fixture
def config(mq_user: User, proxy: FaultProxy) -> dict[str, Any]:
    """The configuration of a service behind the proxy."""
    return {
        "server": proxy.host,
        "port": proxy.port,
        "users": {SERVICE: {"user": mq_user.name, "password": mq_user.password}},
        **PATIENT,
    }


@pytest.fixture
def make_service(config: dict[str, Any], vhost: str) -> Iterator[Callable[..., MQConnector]]:
    """Make connectors behind the proxy, with further settings; stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(kind: type[MQConnector] = MQConnector, **settings: Any) -> MQConnector:
            connector = kind({**config, **settings}, SERVICE)
            connector.vhost = vhost
            stack.callback(connector.stop)
            return connector

        yield make


@pytest.fixture
def service(make_service: Callable[..., MQConnector]) -> MQConnector:
    """One connector behind the proxy."""
    return make_service()


@pytest.fixture
def start(service: MQConnector, engine: dict[str, Any]) -> Start:
    """Register a consumer as `register` does, by each engine, and run the service."""

    def start(queue: str, callback: Any, on_error: Any = None, **options: Any) -> MQConnector:
        told = on_error or (lambda *_: None)
        register(service, queue, callback, told, **options, **engine)
        return run(service)

    return start


@pytest.fixture
def client(
    connection_params: pika.ConnectionParameters, broker: PrivateBroker, vhost: str
) -> Iterator[RequestClient]:
    """A requester with a line of its own."""
    client = RequestClient([connection_params], owner="tests")
    yield client
    client.close()


@pytest.fixture
def alarm(
    request: pytest.FixtureRequest, broker: PrivateBroker | EmbeddedBroker
) -> Callable[[], AbstractContextManager[None]]:
    """Have the broker find that it has too little memory."""
    if isinstance(broker, EmbeddedBroker):
        return partial(_embedded_alarm, broker)
    assert request.node.get_closest_marker("own_broker"), "mark the test with own_broker"

    @contextlib.contextmanager
    def raise_alarm() -> Iterator[None]:
        broker.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            eventually(lambda: _has_alarm(broker), what="the broker has a memory alarm")
            yield
        finally:
            broker.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
        eventually(lambda: not _has_alarm(broker), what="the memory alarm is over")

    return raise_alarm


@contextlib.contextmanager
def _embedded_alarm(broker: EmbeddedBroker) -> Iterator[None]:
    broker.block("memory")
    try:
        yield
    finally:
        broker.unblock()


def _has_alarm(broker: PrivateBroker) -> bool:
    nodes = broker.management.call("GET", "nodes")
    return any(node.get("mem_alarm") for node in nodes)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What callbacks wait for; it comes at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def register(
    service: MQConnector,
    queue: str,
    callback: Any,
    on_error: Any = lambda *_: None,
    **options: Any,
) -> None:
    """Register a consumer, named "it", of a durable queue; it acknowledges on success."""
    options = {"ack": "on_success", "durable": True, **options}
    service.register_consumer("it", service.vhost, queue, callback, on_error, **options)


def run(connector: MQConnector) -> MQConnector:
    """Run a connector with nothing but its consumers, and wait until they consume."""
    connector.run(run_sync=False, run_observer=False, mq_timeout=120)
    for name, thread in connector.consumers.items():
        eventually(lambda thread=thread: thread.is_consuming, what=f"{name} consumes")  # type: ignore[misc]
    return connector


def send(connector: Any, ledger: Ledger, message_id: str, queue: str) -> None:
    """Send a message that must be confirmed, and note it."""
    ledger.sending(message_id)
    connector.send_message({"message_id": message_id}, queue=queue)
    ledger.confirmed(message_id)


def note_batch(ledger: Ledger, ids: Sequence[str], failures: Mapping[int, PublishError]) -> None:
    """Note what became of each message of a batch."""
    for number, message_id in enumerate(ids):
        if number in failures:
            ledger.failed(message_id, may_have_arrived=failures[number].may_have_arrived)
        else:
            ledger.confirmed(message_id)


def note(ledger: Ledger) -> Callable[[Any, Any, Any, Any], None]:
    """Make a callback that does nothing but note what it was given."""

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        ledger.handled(properties.message_id)

    return callback
