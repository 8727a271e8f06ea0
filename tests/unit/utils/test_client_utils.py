"""`send_mq_request` up to the request client: what it refuses, and which configuration it uses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

import neon_mq_connector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.utils import client_utils
from neon_mq_connector.utils.client_utils import send_mq_request

Asked = list[tuple[float, pika.ConnectionParameters]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """The requests that would have left: the time-out, and the parameters of the client."""
    asked: Asked = []

    def request(client: RequestClient, spec: RequestSpec, **_: Any) -> dict[str, Any]:
        asked.append((spec.timeout, client.connections.parameters[0]))
        return {"answered": True}

    users = {"mq_handler": {"user": "somebody", "password": "secret"}}
    config = {"server": "127.0.0.1", "port": 1, "users": users}
    monkeypatch.setattr(client_utils, "_default_mq_config", config)
    monkeypatch.setattr(RequestClient, "request", request)
    monkeypatch.setattr(client_utils, "_requester", None)
    yield asked
    close_shared_clients()


@pytest.mark.parametrize(
    "argument, value, hint",
    [
        ("timeout", 1e12, "seconds, more than 0 and at most 4,294,967"),
        ("timeout", float("nan"), "seconds"),
        ("timeout", 0, "seconds"),
        ("timeout", "5", "seconds"),
        ("target_queue", None, "give the name of the service's own"),
        ("target_queue", 5, "give the name of the service's own"),
        ("response_queue", 5, "give its name as a text, or None"),
        ("vhost", None, "give its name as a text, such as '/'"),
        ("stream_callback", 5, "a function; give one, or None"),
        ("request_data", None, "is not a message; give a dict"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named_in_the_log_with_what_would_do(
    asked: Asked, caplog: pytest.LogCaptureFixture, argument: str, value: Any, hint: str
) -> None:
    arguments = {"vhost": "/", "request_data": {"n": 1}, "target_queue": "q", argument: value}
    with caplog.at_level(logging.ERROR):
        assert send_mq_request(**arguments) == {}
    (record,) = caplog.records
    assert f"{argument}" in record.getMessage()
    assert hint in record.getMessage()
    assert asked == []


def test_a_timeout_of_none_is_the_default_and_what_is_kept_shows_no_password(asked: Asked) -> None:
    assert send_mq_request("/", {"n": 1}, "q", timeout=None)
    assert send_mq_request("/", {"n": 1}, "q")
    assert [timeout for timeout, _parameters in asked] == [30, 30]
    assert "secret" not in repr(client_utils._requester)


def test_a_url_in_the_environment_says_where_requests_go(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEON_MQ_URL", "amqp://me:secret@127.0.0.1:2/")
    assert neon_mq_connector.send_mq_request("/", {"n": 1}, "queue") == {"answered": True}
    _timeout, parameters = asked[-1]
    assert parameters.port == 2
    assert getattr(parameters.credentials, "username", "") == "me"
    monkeypatch.delenv("NEON_MQ_URL")
    assert send_mq_request("/", {"n": 1}, "queue") == {"answered": True}
    assert asked[-1][1].port == 1


def test_an_error_names_the_file_that_is_read_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("before.json", "now.json"):
        (tmp_path / name).write_text('{"server": "127.0.0.1", "users": {"other": {}}}')
        monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(tmp_path / name))
        with pytest.raises(ConfigurationError, match=name):
            send_mq_request("/", {"n": 1}, "queue", raise_errors=True)


def test_a_script_without_a_configuration_is_told_what_to_give_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_utils, "_requester", None)
    assert send_mq_request("/", {"n": 1}, "queue") == {}
    (record,) = caplog.records
    for words in (
        "client 'mq_handler' has no credentials",
        "set NEON_MQ_URL=amqp://user:password@host:port/vhost",
        "add users.mq_handler or users.default",
        "mq_config.json",
    ):
        assert words in record.getMessage()
