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
from tests.contract.services.gateway import Backend, Gateway
from tests.contract.services.users import UsersService
from tests.support.polling import eventually

MakeConfig = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def services_config(make_mq_config: MakeConfig) -> dict[str, Any]:
    return make_mq_config("users_service", "gateway")


@pytest.fixture
def serve(endings: Any) -> Callable[..., Any]:
    """Run a service until the end of the test."""

    def start(service: Any, **kwargs: Any) -> Any:
        endings.callback(service.stop)
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


class TestGateway:
    def test_a_backend_of_the_old_kind(
        self,
        services_config: dict[str, Any],
        vhost: str,
        serve: Any,
        ask: Any,
        old_service: Callable[..., Any],
    ) -> None:
        backend = old_service("backend")
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
