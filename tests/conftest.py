"""What every test can ask for: a broker of each kind, a virtual host of its own, a clean end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pika
import pytest

from neon_mq_connector.testing import PrivateBroker
from tests.support import leaks
from tests.support.engines import ENGINES, FUNCTION_ENGINES, use_engine
from tests.support.nodes import (
    KINDS,
    MODES,
    PERMISSIVE,
    RABBITMQ,
    REFUSING,
    BrokerNodes,
    new_broker,
)

MQConfig = dict[str, Any]

_FAILED = pytest.StashKey[bool]()
_ONLY = {"permissive_only": PERMISSIVE, "refusing_only": REFUSING}


@dataclass(frozen=True)
class User:
    """A broker's user."""

    name: str
    password: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default=RABBITMQ,
        choices=KINDS,
        help="what tests with a broker run on (default: %(default)s)",
    )
    parser.addoption(
        "--broker-modes",
        default=",".join(MODES),
        metavar="MODES",
        help="brokers that tests with a broker run on, comma separated (default: %(default)s)",
    )
    parser.addoption(
        "--engines",
        default=",".join(ENGINES),
        metavar="ENGINES",
        help="engines that tests of consumers run on, comma separated (default: %(default)s)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        # services of earlier releases register functions
        is_contract = metafunc.module.__name__.startswith("tests.contract.")
        possible = FUNCTION_ENGINES if is_contract else tuple(ENGINES)
        wanted = metafunc.config.getoption("--engines").split(",")
        metafunc.parametrize("engine", [each for each in possible if each in wanted], indirect=True)
    if "broker" not in metafunc.fixturenames:
        return
    modes = metafunc.config.getoption("--broker-modes").split(",")
    for marker, mode in _ONLY.items():
        if metafunc.definition.get_closest_marker(marker):
            modes = [each for each in modes if each == mode]
    metafunc.parametrize("broker", modes, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"broker", "start_broker"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.needs_rabbitmq)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when != "teardown" and report.failed:
        item.stash[_FAILED] = True
    return report


class CleanEnd:
    """What has to be checked and removed when all other fixtures of a test have ended.

    The virtual host is the first thing a connector needs and must be the last to go, whatever order
    a test asks for its fixtures in.
    """

    def __init__(self) -> None:
        self.checks: dict[str, Callable[[], None]] = {}
        self.removals = ExitStack()


def _wanted_checks(request: pytest.FixtureRequest) -> Collection[str]:
    """Return the kinds of leftovers that are to be this test's fault."""
    if request.node.stash.get(_FAILED, False):
        return ()  # one fault at a time
    marker = request.node.get_closest_marker("leaves_behind")
    allowed = () if marker is None else marker.args or leaks.KINDS
    return [kind for kind in leaks.KINDS if kind not in allowed]


@pytest.fixture(autouse=True)
def clean_end(request: pytest.FixtureRequest) -> Iterator[CleanEnd]:
    """Check that nothing of ours outlives the test; `leaves_behind` is the way to opt out."""
    end = CleanEnd()
    before = leaks.baseline()
    end.checks["threads"] = lambda: leaks.check_threads(before)
    yield end
    faults = []
    with end.removals:
        leaks.close_shared_clients()
        for kind in _wanted_checks(request):
            try:
                end.checks.get(kind, lambda: None)()
            except AssertionError as fault:
                faults.append(str(fault))
    assert not faults, "; ".join(faults)


@pytest.fixture(scope="session")
def broker_nodes(request: pytest.FixtureRequest) -> Iterator[BrokerNodes]:
    nodes = BrokerNodes(request.config.getoption("--broker"))
    yield nodes
    nodes.close()


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, broker_nodes: BrokerNodes) -> PrivateBroker:
    """The session's broker; a test runs once for each of the modes (`--broker-modes`).

    Tests that stop or kill a broker start their own one: see `start_broker`.
    """
    return broker_nodes.running(getattr(request, "param", PERMISSIVE))


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments by which a registration gets each of the engines."""
    return use_engine(request.param, monkeypatch)


@pytest.fixture
def start_broker(request: pytest.FixtureRequest) -> Iterator[Callable[..., PrivateBroker]]:
    """Start brokers of the test's own, to be broken at will; arguments as for `PrivateBroker`."""
    started: list[PrivateBroker] = []

    def start(**options: Any) -> PrivateBroker:
        node = new_broker(request.config.getoption("--broker"), **options)
        started.append(node)
        node.start()
        return node

    yield start
    for node in started:
        node.close()


@pytest.fixture
def vhost(broker: PrivateBroker, clean_end: CleanEnd) -> str:
    """The name of a virtual host of the test's own, deleted when all else has ended."""
    broker.start()  # another test may have left it dead
    name = f"/v{secrets.token_hex(4)}"
    before = leaks.baseline(broker)
    broker.create_vhost(name)
    clean_end.removals.callback(_if_running, broker, broker.delete_vhost, name)
    clean_end.checks["connections"] = lambda: leaks.check_connections(before, broker)
    clean_end.checks["queues"] = lambda: _if_running(broker, leaks.check_queues, broker, name)
    return name


@pytest.fixture
def mq_user(broker: PrivateBroker, vhost: str, clean_end: CleanEnd) -> User:
    """A user of the test's own who may do everything in the test's virtual host and no other."""
    user = User(f"u{secrets.token_hex(4)}", secrets.token_urlsafe(8))
    broker.add_user(user.name, user.password, vhosts=(vhost,))
    clean_end.removals.callback(_if_running, broker, broker.delete_user, user.name)
    return user


def _if_running(broker: PrivateBroker, action: Callable[..., None], *arguments: object) -> None:
    if broker.running:
        action(*arguments)


@pytest.fixture
def make_mq_config(broker: PrivateBroker, mq_user: User) -> Callable[..., MQConfig]:
    """Make the dict that a connector takes, with these services and `mq_handler` as users."""

    def make(*services: str, **more: Any) -> MQConfig:
        credentials = {"user": mq_user.name, "password": mq_user.password}
        users = {name: dict(credentials) for name in (*services, "mq_handler")}
        return {"server": broker.host, "port": broker.port, "users": users, **more}

    return make


@pytest.fixture
def mq_config(make_mq_config: Callable[..., MQConfig]) -> MQConfig:
    """A connector's configuration with the users `test_service` and `mq_handler`."""
    return make_mq_config("test_service")


@pytest.fixture
def connection_params(
    broker: PrivateBroker, vhost: str, mq_user: User
) -> pika.ConnectionParameters:
    """How plain pika gets to the test's virtual host."""
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=vhost,
        credentials=pika.PlainCredentials(mq_user.name, mq_user.password),
        socket_timeout=5.0,
        blocked_connection_timeout=10.0,
    )


@pytest.fixture
def channel(
    connection_params: pika.ConnectionParameters,
) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """A channel of plain pika, as a peer that does not use this library has it."""
    connection = pika.BlockingConnection(connection_params)
    yield connection.channel()
    if connection.is_open:
        connection.close()
