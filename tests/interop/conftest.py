"""Old peers, one process of each role per module, in a virtual host that the module's tests share.

A peer needs most of a second to start, so it cannot have a virtual host per test: queues have
names of their own instead.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.testing.running import RunningBroker
from neon_mq_connector.utils import client_utils
from tests.interop.old_peers import OldPeer, build_environment
from tests.interop.our_service import OurService, Received, start
from tests.support import leaks
from tests.support.vhosts import TestVhost, VhostPool

StartOld = Callable[..., OldPeer]


@pytest.fixture(scope="session")
def old_python() -> Path:
    return build_environment()


@pytest.fixture(scope="module")
def own_vhost(broker: RunningBroker) -> Iterator[TestVhost]:
    """The module's virtual host; see `nothing_of_ours_left` for what is checked in each test."""
    pool = VhostPool(broker)
    vhost = pool.take()
    yield vhost
    pool.remove(vhost)


@pytest.fixture(scope="module")
def vhost(own_vhost: TestVhost) -> str:
    return own_vhost.name


@pytest.fixture(scope="module")
def config(broker: RunningBroker, own_vhost: TestVhost) -> dict[str, Any]:
    """What both packages take as their configuration."""
    user = {"user": own_vhost.user.name, "password": own_vhost.user.password}
    users = dict.fromkeys(("old_service", "our_service", "mq_handler"), user)
    return {"server": broker.host, "port": broker.port, "users": users}


@pytest.fixture(scope="module")
def start_old(
    old_python: Path,
    config: dict[str, Any],
    vhost: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartOld]:
    """Start old peers; arguments: the role, and more for its set-up."""
    with contextlib.ExitStack() as stack:

        def start_one(role: str, **more: Any) -> OldPeer:
            setup = {"config": config, "vhost": vhost, **more}
            peer = OldPeer(old_python, role, tmp_path_factory.mktemp(role), setup)
            stack.callback(peer.stop)
            peer.wait_ready()
            return peer

        yield start_one


@pytest.fixture(scope="module")
def old_client(start_old: StartOld) -> OldPeer:
    return start_old("client")


@pytest.fixture(scope="module")
def old_service(start_old: StartOld) -> OldPeer:
    """An old service whose queues are `old_` and the name of a way to answer."""
    return start_old("service", prefix="old_")


@pytest.fixture(scope="module")
def old_publisher(old_subscriber: OldPeer) -> OldPeer:
    return old_subscriber


@pytest.fixture(scope="module")
def old_subscriber(start_old: StartOld) -> OldPeer:
    return start_old("subscriber")


@pytest.fixture(autouse=True)
def nothing_of_ours_left(broker: RunningBroker, vhost: str) -> Iterator[None]:
    before = leaks.baseline(broker)
    yield
    leaks.close_shared_clients()
    leaks.check_connections(before, broker)
    leaks.check_queues(broker, vhost)


@pytest.fixture
def queue() -> str:
    """A queue's name that no other test uses."""
    return f"q_{secrets.token_hex(4)}"


@pytest.fixture
def exchange() -> str:
    """An exchange's name that no other test uses."""
    return f"x_{secrets.token_hex(4)}"


@pytest.fixture
def received() -> Received:
    """What the services of ours in this test were sent."""
    return Received()


@pytest.fixture
def our_config(request: pytest.FixtureRequest, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the service of ours; a test may add keys by indirect parameters."""
    return {**config, **getattr(request, "param", {})}


@pytest.fixture
def our_connector(
    nothing_of_ours_left: None, our_config: dict[str, Any], vhost: str, received: Received
) -> Iterator[Any]:
    """A service of ours on which nothing is registered yet, stopped at the end of the test."""
    service = OurService(our_config, vhost, received)
    yield service
    service.stop()


@pytest.fixture
def serve(our_connector: Any, vhost: str, queue: str) -> Callable[..., Any]:
    """Let our service answer on the test's queue, in one of the ways it has."""

    def serve_one(way: str, **options: Any) -> Any:
        our_connector.register_consumer(way, vhost, queue, getattr(our_connector, way), **options)
        start(our_connector)
        return our_connector

    return serve_one


@pytest.fixture
def request_old(
    config: dict[str, Any], vhost: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Send a request with our client, configured as callers of the published package do it."""
    monkeypatch.setattr(client_utils, "_default_mq_config", config)

    def request(target: str, data: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = client_utils.send_mq_request(vhost, data, target, **options)
        return answer

    return request
