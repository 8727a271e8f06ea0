"""A plugin for pytest: a broker, a fresh virtual host for each test, and services that run in it.

pytest loads it in every project in whose environment this package is installed. Nothing but pytest
is imported until a test asks for one of the fixtures.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from neon_mq_connector.connector import MQConnector
    from neon_mq_connector.testing.observed import ParkedMessages, PublishedMessages
    from neon_mq_connector.testing.own_vhost import OwnVhost
    from neon_mq_connector.testing.proxy import FaultProxy
    from neon_mq_connector.testing.running import OwnBroker
    from neon_mq_connector.testing.services import RunningServices

_CLIENT = "mq_handler"
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses the broker."""
    parser.getgroup("neon-mq-connector").addoption(
        "--mq-broker",
        default="embedded",
        choices=("embedded", "rabbitmq"),
        help="what the fixtures mq_* run on: a broker in this process, or a node of the installed "
        "RabbitMQ (default: %(default)s)",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Note which tests have failed: what those leave behind is not reported."""
    outcome = yield
    if outcome.get_result().failed:
        item.stash[_FAILED] = True


@pytest.fixture(scope="session")
def mq_broker(request: pytest.FixtureRequest) -> Iterator[OwnBroker]:
    """The broker of the session; a project may replace it by one with other options."""
    from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker

    is_embedded = request.config.getoption("--mq-broker") == "embedded"
    broker: OwnBroker = EmbeddedBroker() if is_embedded else PrivateBroker()
    with broker:
        yield broker


@pytest.fixture
def _mq_vhost(
    request: pytest.FixtureRequest, mq_broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnVhost]:
    """The virtual host of the test: made before all else and removed last."""
    from neon_mq_connector.testing.own_vhost import OwnVhost

    own = OwnVhost(mq_broker)
    own.create()
    own.redirect_connectors(monkeypatch)
    with own.closing:
        yield own
    if own.broker.running:
        try:
            left = [] if _has_failed(request) else own.leftovers()
        finally:
            own.remove()
        _fail_if_any("the test has left behind", left)


@pytest.fixture
def mq_config(
    _mq_vhost: OwnVhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The configuration of services and clients, also for those that have none of their own."""
    user = {"user": _mq_vhost.user, "password": _mq_vhost.password}
    broker = _mq_vhost.broker
    config = {"server": broker.host, "port": broker.port, "users": {_CLIENT: user}}
    path = tmp_path / "mq_config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.delenv("NEON_MQ_URL", raising=False)  # it would go before the file
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(path))
    return config


@pytest.fixture
def mq_client(_mq_vhost: OwnVhost, mq_config: dict[str, Any]) -> Iterator[MQConnector]:
    """A connector that asks and sends; `vhost` is the name of the test's virtual host."""
    from neon_mq_connector.connector import MQConnector

    client = MQConnector(mq_config, _CLIENT)
    client.testing_envs = ()  # the name is as it is
    client.vhost = _mq_vhost.name
    yield client
    _mq_vhost.end_faults()
    client.stop()


@pytest.fixture
def mq_service(
    request: pytest.FixtureRequest, _mq_vhost: OwnVhost, mq_config: dict[str, Any]
) -> Iterator[RunningServices]:
    """Start services: `mq_service(Greeter)`. They are stopped after the test."""
    from neon_mq_connector.testing.services import RunningServices

    services = RunningServices(mq_config)
    yield services
    _mq_vhost.end_faults()
    ask = _mq_vhost.broker.running and not _has_failed(request)
    unsettled = _mq_vhost.unsettled() if ask else []
    services.stop()
    _fail_if_any("messages were delivered and not settled", unsettled)


@pytest.fixture
def mq_proxy(_mq_vhost: OwnVhost) -> FaultProxy:
    """A line to the broker that breaks on demand: `mq_service(Greeter, through=mq_proxy)`."""
    from neon_mq_connector.testing.proxy import FaultProxy

    proxy = _mq_vhost.closing.enter_context(FaultProxy(_mq_vhost.broker.port))
    _mq_vhost.add_proxy(proxy)
    return proxy


@pytest.fixture
def mq_published(_mq_vhost: OwnVhost) -> PublishedMessages:
    """Tell what was published: `mq_published("orders")`, `mq_published(exchange="news")`."""
    from neon_mq_connector.testing.observed import PublishedMessages

    return PublishedMessages(_mq_vhost)


@pytest.fixture
def mq_parked(_mq_vhost: OwnVhost) -> ParkedMessages:
    """Tell what was parked because its callback failed: `mq_parked("orders")`."""
    from neon_mq_connector.testing.observed import ParkedMessages

    return ParkedMessages(_mq_vhost)


def _has_failed(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.stash.get(_FAILED, False))


def _fail_if_any(what: str, found: list[str]) -> None:
    if found:
        pytest.fail(f"{what}: {', '.join(found)}", pytrace=False)
