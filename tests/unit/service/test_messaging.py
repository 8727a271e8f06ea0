"""What a service that sends works out once, and when it does so again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient
from neon_mq_connector.service.shared_clients import close_shared_clients


class Counting(MQConnector):
    """Counts how often parameters are made."""

    made = 0

    def get_connection_params(self, vhost: str, **kwargs: Any) -> pika.ConnectionParameters:
        self.made += 1
        return super().get_connection_params(vhost, **kwargs)


def config(password: str = "secret") -> dict[str, Any]:
    users = {name: {"user": name, "password": password} for name in ("service", "other")}
    return {"server": "127.0.0.1", "port": 1, "users": users}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[pika.ConnectionParameters]]:
    """The parameters of the client that each request would have left with."""
    parameters: list[pika.ConnectionParameters] = []

    def request(client: RequestClient, *_: object, **_options: object) -> dict[str, Any]:
        parameters.append(client._connections.parameters[0])
        return {}

    monkeypatch.setattr(RequestClient, "request", request)
    yield parameters
    close_shared_clients()


def test_parameters_are_made_once_for_all_requests(asked: list[Any]) -> None:
    connector = Counting(config(), "service")
    for _ in range(3):
        connector.request({"n": 1}, "q")
        connector.request({"n": 1}, "q", vhost="/other")
    assert connector.made == 2
    assert [each.virtual_host for each in asked] == ["/", "/other"] * 3


def test_what_is_set_anew_counts_from_the_next_request_on(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = Counting(config(), "service")
    connector.request({"n": 1}, "q")
    connector.config = config("another")
    connector.request({"n": 1}, "q")
    connector.vhost = "/set"
    connector.request({"n": 1}, "q")
    connector.vhost_prefix = "pre"
    connector.request({"n": 1}, "q")
    monkeypatch.setenv("MQ_TESTING", "1")
    connector.request({"n": 1}, "q")
    monkeypatch.setenv("MQ_TESTING_PREFIX", "trial")
    connector.request({"n": 1}, "q")
    connector.service_name = "other"
    connector.request({"n": 1}, "q")
    assert [(each.credentials.password, each.virtual_host) for each in asked] == [
        ("secret", "/"),
        ("another", "/"),
        ("another", "/set"),
        ("another", "/pre_set"),
        ("another", "/test_pre_set"),
        ("another", "/trial_pre_set"),
        ("another", "/trial_pre_set"),
    ]
    assert asked[-1].credentials.username == "other"


def test_a_client_that_was_closed_is_made_anew(asked: list[Any]) -> None:
    connector = Counting(config(), "service")
    connector.request({"n": 1}, "q")
    close_shared_clients()
    connector.request({"n": 1}, "q")
    assert connector.made == 2
    assert asked[0] is not asked[1]
