"""A URL says where the broker is: for services, for clients and for the command."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.config import load_settings
from neon_mq_connector.config.sources import parse_url
from neon_mq_connector.errors import ConfigurationError

SECRET = "s3cr3t-word"


def test_all_parts_of_a_url_are_read() -> None:
    source = parse_url("amqp://me%40home:p%2Fw%3A@mq.example:5673/%2Fneon", "--url")
    user = {"user": "me@home", "password": "p/w:"}
    config = {"server": "mq.example", "port": 5673, "users": {"default": user}, "tls": False}
    assert (source.name, source.vhost, source.config) == ("--url", "/neon", config)
    assert "p/w:" not in repr(source)
    encrypted = parse_url("amqps://u:p@[::1]:5671/", "").config
    assert (encrypted["server"], encrypted["port"], encrypted["tls"]) == ("::1", 5671, True)


@pytest.mark.parametrize(
    "path, vhost",
    [("", "/"), ("/", "/"), ("/%2F", "/"), ("/neon", "neon"), ("//neon", "/neon")],
)
def test_the_path_is_the_virtual_host(path: str, vhost: str) -> None:
    assert parse_url(f"amqp://u:p@host{path}", "").vhost == vhost


@pytest.mark.parametrize(
    "url, words",
    [
        (f"http://u:{SECRET}@host/", "does not begin with amqp://"),
        (f"amqp://u:{SECRET}@/", "has no host"),
        (f"amqp://u:{SECRET}@host:99999/", "port is not a number"),
        (f"amqp://u:{SECRET}@host/v?heartbeat=3", "options after ? are not understood"),
        (f"amqp://{SECRET}@host/", "no user and password"),
        (f"amqp://u:{SECRET}@[::1/", "it is no URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_not_repeated(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    monkeypatch.setenv("NEON_MQ_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert words in message
    assert "NEON_MQ_URL" in message
    assert "amqp://user:password@host:port/vhost" in message
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_dict_goes_before_the_url_and_the_url_before_every_file(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text(json.dumps({"server": "from.file"}))
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(config_file))
    monkeypatch.setenv("NEON_MQ_URL", "amqp://u:p@from.url/")
    assert load_settings({"server": "from.dict"}).server == "from.dict"
    assert load_settings().server == "from.url"
    monkeypatch.setenv("NEON_MQ_URL", " ")
    assert load_settings().server == "from.file"


@pytest.mark.parametrize(
    "own, prefix, vhost",
    [
        ("", "", "llm"),
        ("", "x", "/x_llm"),
        ("/mine", "", "/mine"),
        ("/", "", "/"),
    ],
)
def test_the_virtual_host_of_the_url_is_that_of_services_which_set_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, own: str, prefix: str, vhost: str
) -> None:
    monkeypatch.setenv("NEON_MQ_URL", "amqp://u:p@host/llm")
    service = MQConnector(None, "greeter")
    service.vhost_prefix = prefix
    if own:
        service.vhost = own
    assert service.vhost == vhost
    service.vhost = service.vhost
    assert service.vhost == vhost
    assert MQConnector({"server": "other"}, "greeter").vhost == "/"
