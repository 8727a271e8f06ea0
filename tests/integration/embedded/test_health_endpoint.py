"""The state of a service over HTTP, on the embedded broker."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from neon_mq_connector import AsyncMQConnector, MQConnector, metrics
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.health.server import answer
from neon_mq_connector.health.status import Status, status_of, unreachable
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.polling import eventually

PATIENCE = 120.0


@pytest.fixture(autouse=True)
def _no_durations() -> Iterator[None]:
    yield
    metrics.callback_seconds = metrics.request_seconds = None


@pytest.fixture
def config(embedded: EmbeddedBroker) -> dict[str, Any]:
    return config_of(embedded, "watched")


@pytest.fixture
def service(config: dict[str, Any]) -> Iterator[MQConnector]:
    """A service that handles `quick`, and holds on to what comes to `slow` until it is stopped."""
    connector, release = MQConnector(config, "watched"), threading.Event()
    connector.register_consumer("quick", "/", "quick", lambda *_: None)
    connector.register_consumer("slow", "/", "slow", lambda *_: release.wait(PATIENCE))
    yield connector
    release.set()
    connector.stop()


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def fetch_json(port: int, path: str) -> tuple[int, Any]:
    code, body = fetch(port, path)
    return code, json.loads(body)


def test_a_service_at_work_is_seen(service: MQConnector) -> None:
    with closing(service.serve_health()) as server:
        code, body = fetch_json(server.port, "/ready")
        assert (code, body["ready"]) == (503, False)
        assert body["reasons"] == ["service 'watched' is not running"]
        assert fetch_json(server.port, "/live") == (200, {"live": True, "reasons": []})
        service.run(run_sync=False)
        assert fetch_json(server.port, "/ready?x=1") == (200, {"ready": True, "reasons": []})
        message_id = service.send_message({"some": "thing"}, vhost="/", queue="slow")
        (running,) = eventually(lambda: fetch_json(server.port, "/inflight")[1])
        assert (running["queue"], running["message_id"]) == ("slow", message_id)
        assert running["age"] >= 0
        first, line = running["stack"].splitlines()[:2]
        assert __file__ in first, "what is before the callback is left out"
        assert "release.wait" in line
        service.send_message({"some": "thing"}, vhost="/", queue="quick")

        def is_counted() -> bool:
            (status,) = fetch_json(server.port, "/status")[1]
            calls = status["callback_seconds"].get("quick", {"counts": ()})["counts"]
            return (status["publishes"]["confirmed"], sum(calls)) == (2, 1)

        eventually(is_counted)
        page = fetch(server.port, "/")
        assert page[0] == 200
        assert "<title>" in page[1]


def test_metrics_are_what_prometheus_reads(service: MQConnector) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    service.register_subscriber("news", "/", lambda *_: None, exchange="news")
    service.register_consumer("again", "/", "quick", lambda *_: None)
    service.run(run_sync=False)
    with closing(service.serve_health()) as server:
        for _ in range(2):
            service.send_message({"some": "thing"}, vhost="/", queue="quick")
        quick = ("queue", "quick")
        found: dict[tuple[Any, ...], float] = {}

        def is_over() -> bool:
            code, text = fetch(server.port, "/metrics")
            assert code == 200
            found.update(
                {
                    (each.name, *sorted(each.labels.items())): each.value
                    for family in parser.text_string_to_metric_families(text)
                    for each in family.samples
                }
            )
            handled = found["neon_mq_messages_total", ("outcome", "handled"), quick]
            return (handled, found["neon_mq_running", quick]) == (2, 0)

        eventually(is_over)
    assert found["neon_mq_publishes_total", ("outcome", "confirmed")] == 2
    assert found["neon_mq_consumer_up", ("consumer", "quick"), quick] == 1
    assert found["neon_mq_connection_up", ("connection", "mq-io:/")] == 1
    assert found["neon_mq_callback_seconds_count", quick] == 2
    assert found["neon_mq_callback_seconds_bucket", ("le", "+Inf"), quick] == 2
    assert found["neon_mq_consumer_up", ("consumer", "news"), ("queue", "watched.news")] == 1
    for name in ("running", "waiting", "unsettled", "held", "recoveries_total"):
        assert found[f"neon_mq_{name}", quick] == 0


def test_an_outage_is_told_and_is_no_reason_to_restart(
    service: MQConnector, embedded: EmbeddedBroker
) -> None:
    service.run(run_sync=False)
    with closing(service.serve_health()) as server:
        embedded.kill()
        eventually(lambda: fetch(server.port, "/ready")[0] == 503)
        eventually(lambda: "consumer 'quick' is recovering" in fetch(server.port, "/ready")[1])
        assert fetch(server.port, "/live")[0] == 200
        embedded.start()
        eventually(lambda: fetch(server.port, "/ready")[0] == 200)


def test_a_consumer_that_has_ended_for_good_needs_a_restart(service: MQConnector) -> None:
    service.register_consumer("quick", "/", "quick", lambda *_: None, restart_attempts=0)
    service.run(run_sync=False)
    service.consumers["quick"].join()
    status = status_of(service)
    assert status["live"] == {"ok": False, "reasons": ["consumer 'quick' has ended"]}


def test_requests_are_timed_by_queue(service: MQConnector) -> None:
    metrics.enable()
    service.register_consumer(
        "echo",
        "/",
        "echo",
        lambda channel, _method, properties, body: channel.basic_publish(
            "", properties.reply_to, body, properties
        ),
    )
    service.run(run_sync=False)
    service.request({"some": "thing"}, "echo", vhost="/", timeout=PATIENCE)
    eventually(lambda: sum(status_of(service)["request_seconds"]["echo"]["counts"]) == 1)


def test_a_service_with_a_check_of_its_own_is_ready_when_that_says_so(
    config: dict[str, Any],
) -> None:
    class Careful(MQConnector):
        def check_health(self) -> bool:
            return False

    service = Careful(config, "watched")
    service.run(run_sync=False)
    try:
        ready = status_of(service)["ready"]
        assert ready["reasons"] == ["check_health() of service 'watched' returns False"]
    finally:
        service.stop()


def test_the_setting_has_run_serve_and_stop_end_it(config: dict[str, Any]) -> None:
    service = MQConnector({**config, "health_port": 0}, "watched")
    service.run(run_sync=False)
    server = service._mq_core.endpoint
    assert server is not None
    assert fetch(server.port, "/ready")[0] == 200
    other = MQConnector({**config, "health_port": server.port}, "watched")
    with pytest.raises(ConfigurationError, match=r"health_port: .* cannot be listened on"):
        other.run()
    service.stop()
    with pytest.raises(OSError, match="refused"):
        fetch(server.port, "/ready")


def test_a_coroutine_service_is_seen_too(config: dict[str, Any]) -> None:
    async def run() -> None:
        service = AsyncMQConnector({**config, "health_port": 0}, "watched")
        release = asyncio.Event()

        async def hold(_channel: Any, _method: Any, _properties: Any, _body: bytes) -> None:
            await release.wait()

        service.register_consumer("hold", "/", "hold", hold)
        async with service:
            server = service._mq_core.endpoint
            assert server is not None
            assert (await asyncio.to_thread(fetch, server.port, "/ready"))[0] == 200
            await service.send_message({"some": "thing"}, vhost="/", queue="hold")
            while "await release.wait()" not in str(
                await asyncio.to_thread(fetch_json, server.port, "/inflight")
            ):
                await asyncio.sleep(0.01)
            release.set()
        assert service._mq_core.endpoint is None

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_clients_that_say_nothing_hold_up_no_other(service: MQConnector) -> None:
    with closing(service.serve_health()) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        assert fetch(server.port, "/live")[0] == 200
        assert fetch(server.port, "/live", "HEAD") == (200, "")
        assert fetch(server.port, "/live", "POST")[0] == 501
        assert fetch_json(server.port, "/nothing")[0] == 404
        for each in silent:
            each.close()


def test_without_prometheus_client_metrics_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, _type, body = answer("/metrics", lambda: ())
    assert code == 501
    assert b"neon-mq-connector[metrics]" in body


@pytest.mark.parametrize(
    "states,live,ready",
    [((), 200, 200), ((True,), 200, 503), ((True, False), 503, 503)],
)
def test_of_several_processes_the_worst_counts(
    states: tuple[bool, ...], live: int, ready: int
) -> None:
    def look() -> list[Status]:
        well = {"ok": True, "reasons": []}
        return [
            {**unreachable("it", "", live=True), "live": well, "ready": well, "worker": 1},
            *(
                {**unreachable("it", "is not there", live=each), "worker": number}
                for number, each in enumerate(states, 2)
            ),
        ]

    assert (answer("/live", look).code, answer("/ready", look).code) == (live, ready)
    if states:
        reasons = json.loads(answer("/ready", look).body)["reasons"]
        assert reasons[0] == "worker 2: is not there"
