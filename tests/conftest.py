"""What every test can ask for: a broker of each kind, a virtual host of its own, a clean end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pika
import pytest

from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.running import RunningBroker
from tests.contract.peer import Answer, OldStyleService
from tests.support import leaks
from tests.support.engines import ENGINES, engines_of, use_engine
from tests.support.nodes import (
    EMBEDDED,
    KINDS,
    MODES,
    PERMISSIVE,
    RABBITMQ,
    REFUSING,
    BrokerNodes,
    SharedNodes,
    Ticket,
    new_broker,
    serve_addresses,
)
from tests.support.vhosts import TestVhost, User, VhostPool

MQConfig = dict[str, Any]

_FAILED = pytest.StashKey[bool]()
_NODES = pytest.StashKey[BrokerNodes | SharedNodes]()
_OWN = "own-"
#: Files of tests that share brokers of their own.
_SHARING_FIXTURES = (
    "tests/integration/test_tls.py",
    "tests/unit/test_packaging.py",
)
_TICKET = pytest.StashKey[Ticket]()


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


def pytest_configure(config: pytest.Config) -> None:
    ticket = getattr(config, "workerinput", {}).get("brokers")
    kind = config.getoption("--broker")
    config.stash[_NODES] = SharedNodes(ticket) if ticket else BrokerNodes(kind)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_NODES].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker process of pytest-xdist where to ask for the brokers."""
    stash = node.config.stash
    if _TICKET not in stash:
        stash[_TICKET] = serve_addresses(stash[_NODES])
        runs_everything = node.config.args_source is pytest.Config.ArgsSource.TESTPATHS
        if runs_everything and node.config.getoption("--broker") == RABBITMQ:
            stash[_NODES].start_all_soon()  # while the workers collect
    node.workerinput["brokers"] = stash[_TICKET]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal tests out one by one, but for those that share what one process alone should have."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it begins with the largest scope
        def _split_scope(self, nodeid: str) -> str:
            file, _, name = nodeid.partition("::")
            if _OWN in name:
                return "a broker of their own"
            if file.startswith("tests/interop/"):
                return "old peers"  # whose environment may have to be made yet
            return file if file.startswith(_SHARING_FIXTURES) else nodeid

    return Scheduling(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    def chosen(option: str, possible: Collection[str]) -> list[str]:
        wanted = metafunc.config.getoption(option).split(",")
        return [each for each in possible if each in wanted]

    if "engine" in metafunc.fixturenames:
        engines = chosen("--engines", engines_of(metafunc))
        metafunc.parametrize("engine", engines, indirect=True)
    if "broker" in metafunc.fixturenames:
        modes = chosen("--broker-modes", _modes_of(metafunc))
        if metafunc.definition.get_closest_marker("embedded_broker"):
            modes = [EMBEDDED]
        elif metafunc.definition.get_closest_marker("own_broker"):
            modes = [f"{_OWN}{mode}" for mode in modes]
        metafunc.parametrize("broker", modes, indirect=True, scope="session")


def _modes_of(metafunc: pytest.Metafunc) -> Collection[str]:
    marked = metafunc.definition.get_closest_marker
    if marked("refusing_only"):
        return [REFUSING]
    return MODES if marked("every_broker") else [PERMISSIVE]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--broker") == EMBEDDED:
        return  # what needs RabbitMQ all the same is marked where it stands
    for item in items:
        if item.get_closest_marker("embedded_broker"):
            continue
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"broker", "start_broker"}:
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
def own_nodes(request: pytest.FixtureRequest) -> Iterator[BrokerNodes]:
    """Brokers that no other process uses."""
    nodes = BrokerNodes(request.config.getoption("--broker"))
    yield nodes
    nodes.close()


@pytest.fixture(scope="session")
def embedded_nodes() -> Iterator[BrokerNodes]:
    """Embedded brokers of this process."""
    nodes = BrokerNodes(EMBEDDED)
    yield nodes
    nodes.close()


@pytest.fixture(scope="session")
def broker(
    request: pytest.FixtureRequest, own_nodes: BrokerNodes, embedded_nodes: BrokerNodes
) -> RunningBroker:
    """The session's broker: one that permits transient queues, where no marker says otherwise.

    A test that breaks it, or needs more than its address, is marked with `own_broker`: then it is a
    `PrivateBroker`, and started again where the last such test has left it down.
    """
    mode = getattr(request, "param", PERMISSIVE)
    if mode == EMBEDDED:
        return embedded_nodes.running(PERMISSIVE)
    is_embedded = request.config.getoption("--broker") == EMBEDDED
    if mode.startswith(_OWN) or is_embedded:  # that one starts in no time, and is not shared
        return own_nodes.running(mode.removeprefix(_OWN))
    return RunningBroker(request.config.stash[_NODES].address(mode))


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


@pytest.fixture(scope="session")
def vhost_pools() -> dict[int, VhostPool]:
    """The virtual hosts of this process, by their broker's port."""
    return {}


@pytest.fixture
def own_vhost(
    request: pytest.FixtureRequest,
    broker: RunningBroker,
    vhost_pools: dict[int, VhostPool],
    clean_end: CleanEnd,
) -> TestVhost:
    """A virtual host of the test's own with a user, empty at its start."""
    if not _is_up(broker):
        cast(PrivateBroker, broker).start()
    pool = vhost_pools.setdefault(broker.port, VhostPool(broker))
    before = leaks.baseline(broker)
    own = pool.take()

    def end() -> None:
        if not _is_up(broker):
            return
        failed = request.node.stash.get(_FAILED, False)
        # a broker of the test's own may have lost or kept anything
        if failed or request.node.get_closest_marker("own_broker"):
            pool.remove(own)
        else:
            pool.give_back(own)

    clean_end.removals.callback(end)
    clean_end.checks["connections"] = lambda: leaks.check_connections(before, broker)
    clean_end.checks["queues"] = lambda: (
        leaks.check_queues(broker, own.name) if _is_up(broker) else None
    )
    return own


def _is_up(broker: RunningBroker) -> bool:
    return bool(getattr(broker, "running", True))


@pytest.fixture
def vhost(own_vhost: TestVhost) -> str:
    """The name of the test's virtual host."""
    return own_vhost.name


@pytest.fixture
def mq_user(own_vhost: TestVhost) -> User:
    """A user who may do everything in the test's virtual host and no other."""
    return own_vhost.user


@pytest.fixture
def make_mq_config(broker: RunningBroker, mq_user: User) -> Callable[..., MQConfig]:
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
    broker: RunningBroker, vhost: str, mq_user: User
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


@pytest.fixture
def endings(vhost: str) -> Iterator[ExitStack]:
    """What has to end before the virtual host is looked over for leftovers."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def old_service(
    connection_params: pika.ConnectionParameters, endings: ExitStack
) -> Callable[..., OldStyleService]:
    """Start services on plain pika that answer through the queue which the body names."""

    def end(service: OldStyleService) -> None:
        service.stop()
        # a declare of our reply queue with other properties than it has closes its channel
        assert service.failures == []

    def start(queue: str, answer: Answer | None = None) -> OldStyleService:
        service = OldStyleService(connection_params, queue, answer).start()
        endings.callback(end, service)
        return service

    return start
