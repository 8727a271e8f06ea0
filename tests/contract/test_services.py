"""Compatibility contract: whole services, written as the ecosystem writes them, work end to end.

The services are in the folder `services`; here they run against a broker and are asked by clients
of this library and by clients written with plain pika.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.utils import client_utils
from tests.contract.peer import Peer
from tests.contract.services.chat import ChatServer
from tests.contract.services.gateway import Backend, Gateway
from tests.contract.services.users import UsersService
from tests.support.polling import eventually

MakeConfig = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def services_config(make_mq_config: MakeConfig) -> dict[str, Any]:
    return make_mq_config(
        "users_service",
        "chat_server",
        "llm_worker",
        "custom_service",
        "threaded_service",
        "gateway",
        "notifier",
    )


@pytest.fixture
def serve(cleanup: Any) -> Callable[..., Any]:
    """Run a service until the end of the test."""

    def start(service: Any, **kwargs: Any) -> Any:
        cleanup.callback(service.stop)
        service.run(**kwargs)
        eventually(service.check_health, what=f"health of {service.service_name}")
        return service

    return start


@pytest.fixture
def ask(
    services_config: dict[str, Any], vhost: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(client_utils, "_default_mq_config", services_config)

    def request(queue: str, data: dict[str, Any], timeout: float = 10, **kwargs: Any) -> Any:
        return client_utils.send_mq_request(vhost, data, queue, timeout=timeout, **kwargs)

    return request


class TestUsers:
    @pytest.fixture
    def service(self, services_config: dict[str, Any], vhost: str, serve: Any) -> Any:
        return serve(UsersService(services_config, vhost), run_sync=False)

    @pytest.mark.every_broker
    def test_accounts_are_made_and_found(self, service: Any, ask: Any) -> None:
        assert ask("create_user", {"user": {"name": "ann", "tags": ("a", "b")}})["success"] is True
        answer = ask("get_user", {"name": "ann"})
        assert answer["user"] == {"name": "ann", "tags": ("a", "b")}
        assert ask("create_user", {"user": {"name": "ann"}})["code"] == 409

    def test_a_request_that_makes_the_callback_fail_does_not_stop_the_service(
        self, service: Any, ask: Any
    ) -> None:
        assert ask("get_user", {"name": "nobody"}, timeout=1) == {}
        assert [type(error) for error in service.errors] == [KeyError]
        assert ask("create_user", {"user": {"name": "bob"}})["success"] is True
        assert ask("get_user", {"name": "bob"})["user"]["name"] == "bob"
        assert service.check_health() is True


class TestChat:
    @pytest.fixture
    def start(self, services_config: dict[str, Any], serve: Any) -> Any:
        def start(own_vhost: str, prefix: str = "") -> Any:
            return serve(ChatServer(services_config, "chat_server", own_vhost, prefix))

        return start

    @pytest.mark.every_broker
    def test_every_server_hears_every_shout(self, start: Any, vhost: str, peer: Peer) -> None:
        servers = [start(vhost), start(vhost)]
        eventually(lambda: all(c.is_consuming for s in servers for c in s.consumers.values()))
        for number in range(6):
            peer.publish({"shout": f"hello {number}"}, queue="chat_said")
        expected = [f"hello {number}" for number in range(6)]
        everybody = {server.service_id for server in servers}
        for server in servers:
            eventually(lambda: len(server.heard) >= 6)  # noqa: B023 - used at once
            assert sorted(server.shouts()) == expected
            eventually(lambda: everybody <= server.seen_servers)  # noqa: B023

    @pytest.mark.parametrize("how", ["of the service", "of testing"])
    def test_a_prefix_leads_to_another_virtual_host(
        self, start: Any, vhost: str, peer: Peer, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        prefix = vhost.removeprefix("/")
        if how == "of testing":
            monkeypatch.setenv("MQ_TESTING", "1")
            monkeypatch.setenv("CHAT_SERVER_TESTING_PREFIX", prefix)
        server = start("/", prefix if how == "of the service" else "")
        assert server.vhost == vhost
        peer.publish({"shout": "hello"}, queue="chat_said")
        eventually(lambda: server.shouts() == ["hello"])

    @pytest.mark.every_broker
    def test_a_server_that_left_leaves_no_queue_of_its_own(
        self, start: Any, vhost: str, broker: Any
    ) -> None:
        server = start(vhost)
        eventually(lambda: server.seen_servers)
        server.stop()

        def named() -> list[str]:
            return [queue["name"] for queue in broker.list_queues(vhost)]

        eventually(lambda: "chat_said" in named() and len(named()) == 1)


class TestGateway:
    def test_a_backend_of_the_old_kind(
        self,
        services_config: dict[str, Any],
        vhost: str,
        serve: Any,
        ask: Any,
        old_style: Callable[..., Any],
    ) -> None:
        backend = old_style("backend")
        serve(Gateway(services_config, vhost, "backend"), run_sync=False)
        for number in range(2):
            answer = ask("gateway_input", {"payload": number})
            assert answer["backend"]["echo"]["payload"] == number
            assert answer["request_id"] == backend.requests[number]["message_id"]
        assert backend.failures == []

    @pytest.mark.every_broker
    def test_a_backend_of_our_own(
        self, services_config: dict[str, Any], vhost: str, serve: Any, ask: Any, broker: Any
    ) -> None:
        serve(Backend(services_config, vhost), run_sync=False)
        serve(Gateway(services_config, vhost, "backend"), run_sync=False)
        for number in range(2):
            answer = ask("gateway_input", {"payload": number})
            assert answer["backend"]["twice"] == number * 2
        # nothing is left of the handlers that were made for it
        names = [queue["name"] for queue in broker.list_queues(vhost)]
        assert not [name for name in names if name.startswith("gateway_reply")]
        threads = [thread.name for thread in threading.enumerate()]
        assert not [name for name in threads if "answer" in name]
