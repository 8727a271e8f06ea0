"""The promises of a first release, one by one, against a real broker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import AuthenticationError
from neon_mq_connector.testing.running import RunningBroker
from tests.integration.conftest import SERVICE, Asked, MakeConnector, Queues, Seen
from tests.support.nodes import free_port
from tests.support.polling import eventually


@pytest.mark.every_broker
def test_a_hundred_queues_share_one_connection_start_at_once_and_leave_nothing(
    make_connector: MakeConnector,
    client: RequestClient,
    broker: RunningBroker,
    vhost: str,
    queues: Queues,
) -> None:
    connector = make_connector(Asked)
    assert isinstance(connector, Asked)
    names = [f"q{number}" for number in range(100)]
    connector.send_message({"open": "the connection"}, queue="elsewhere")
    for name in names:
        connector.register_consumer(name, vhost, name, connector.square)
    connector.run_consumers()
    eventually(lambda: all(connector.consumers[name].is_consuming for name in names))

    def ask(number: int) -> Any:
        return client.request(RequestSpec(names[number], {"n": number}, timeout=120))["square"]

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(100))) == [number**2 for number in range(100)]

    def consuming() -> int:
        purposes = [
            str(row.get("client_properties", {}).get("connection_name"))
            for row in broker.management.connections(vhost)
        ]
        return purposes.count(f"{SERVICE} consuming") if purposes else 0

    assert eventually(consuming) == 1
    connector.stop()
    client.close()
    left = queues()
    assert left == {*names, "elsewhere"}  # what services share stays
    eventually(lambda: not broker.management.connections(vhost) or _is_plain(broker, vhost))


def _is_plain(broker: RunningBroker, vhost: str) -> bool:
    """Whether the connections that are left are none of the library's."""
    return not any(
        str(row.get("client_properties", {}).get("connection_name", "")).startswith(
            (SERVICE, "tests ")
        )
        for row in broker.management.connections(vhost)
    )


@pytest.mark.parametrize(
    "fault, kind",
    [
        ("no broker", ConnectionError),
        ("another password", AuthenticationError),
        ("/no_such_vhost", ValueError),
    ],
)
def test_what_cannot_work_is_one_clear_error(
    make_connector: MakeConnector,
    mq_config: dict[str, Any],
    seen: Seen,
    fault: str,
    kind: type[Exception],
) -> None:
    port, user = free_port(), mq_config["users"][SERVICE]["user"]
    faults: dict[str, tuple[dict[str, Any], str]] = {
        "no broker": ({"port": port}, f":{port}"),
        "another password": (
            {"users": {SERVICE: {"user": user, "password": "wrong-one"}}},
            f"the password of user {user!r}",
        ),
        "/no_such_vhost": ({}, "'/no_such_vhost'"),
    }
    settings, words = faults[fault]
    connector = make_connector(**settings)
    vhost = fault if fault.startswith("/") else connector.vhost
    connector.register_consumer("c", vhost, "q", seen, seen.on_error)
    connector.run_consumers()
    eventually(lambda: seen.errors, what="an error is told")
    thread = connector.consumers["c"]
    assert not thread.is_consuming
    assert not connector.check_health()
    assert thread.snapshot.reason, "health has to know why"
    connector.stop()
    (error,) = seen.errors
    assert isinstance(error, kind)
    assert words in str(error)
    assert "wrong-one" not in str(error)


# -- importing -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_running_and_stopping_from_many_threads_at_once_raises_nothing(
    make_connector: MakeConnector, seed: int
) -> None:
    connector = make_connector()
    connector.observe_period = connector.sync_period = 0.05
    for number in range(3):
        connector.register_consumer(f"c{number}", connector.vhost, f"q{number}", print)
    deeds: list[Callable[[], object]] = [
        lambda: connector.run(mq_timeout=120),
        connector.run_consumers,
        lambda: connector.restart_consumer("c1"),
        connector.observe_consumers,
        connector.stop,
        connector.check_health,
    ]
    end = time.monotonic() + 1.5

    def work(number: int) -> None:
        choose = random.Random(seed * 10 + number)
        while time.monotonic() < end:
            choose.choice(deeds)()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(6)]:
            each.result(120)
    connector.stop()
    connector.run(run_sync=False)
    eventually(connector.check_health)
