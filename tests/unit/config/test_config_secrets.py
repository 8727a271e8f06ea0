"""Whatever goes wrong, no secret is in what a user or a log gets to see."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neon_mq_connector.config import Credentials, MQSettings, Source, load_settings
from neon_mq_connector.errors import ConfigurationError

SECRET = "hunter2-correct-horse"
USER = {"user": "u", "password": SECRET, "api_token": SECRET, "deep": {"list": [SECRET]}}
CONFIG = {
    "server": "mq",
    "mongo_password": SECRET,
    "users": {"a": USER},
    "tls": {"enabled": False, "key_password": SECRET},
}

BAD: dict[str, dict[str, Any]] = {
    "password is a list": {"users": {"a": {"user": "u", "password": [SECRET]}}},
    "password is an object": {"users": {"a": {"user": "u", "password": {"plain": SECRET}}}},
    "user entry is the password": {"users": {"a": SECRET}},
    "users is the password": {"users": SECRET},
    "key password is a list": {"tls": {"key_password": [SECRET]}},
    "key file is the password": {"tls": {"key_file": [SECRET]}},
    "server is a URL": {"server": f"amqp://u:{SECRET}@mq:5672/"},
    "servers are URLs": {"servers": [f"amqp://u:{SECRET}@mq:5672/"]},
    "servers are one URL": {"servers": f"amqp://u:{SECRET}@mq:5672/"},
    "tls is a URL": {"tls": f"amqps://u:{SECRET}@mq"},
    "the password stands in the wrong key": {"port": SECRET, "users": {"a": USER}},
    "a text around it stands in the wrong key": {"port": f"x{SECRET}x", "users": {"a": USER}},
    "something else is wrong": {**CONFIG, "port": 70000},
    "MQ is the password": {"MQ": SECRET},
}


def shown(error: BaseException) -> str:
    """Return all that Python would ever print of an error, what it hides by default included."""
    texts = [str(error), repr(error), "".join(traceback.format_exception(error))]
    for other in (error.__cause__, error.__context__):
        if other is not None:
            texts.append(shown(other))
    return "\n".join(texts)


@pytest.mark.parametrize("case", BAD)
def test_no_secret_is_in_an_error(case: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MQSettings.from_config(BAD[case], source="/etc/mq.json")
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("text", ['{{"password": "{}"', '{{"a": "{}" "b"}}', '"{}', "{}"])
def test_no_secret_is_in_an_error_about_json(text: str, config_file: Path) -> None:
    config_file.write_text(text.format(SECRET))
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert SECRET not in shown(caught.value)


def test_no_secret_is_in_an_error_about_credentials() -> None:
    settings = MQSettings.from_config({"users": {"a": USER, "b": {"password": SECRET}}})
    for service in ("b", "c"):
        with pytest.raises(ConfigurationError) as caught:
            settings.credentials_for(service)
        assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("write", [repr, str])
def test_no_secret_is_in_a_repr(write: Callable[[Any], str]) -> None:
    settings = MQSettings.from_config(CONFIG)
    things = [
        settings,
        settings.users["a"],
        settings.users,
        settings.tls,
        settings.credentials_for("a"),
        Credentials("u", SECRET),
        Source("x", CONFIG),
    ]
    for thing in things:
        assert SECRET not in write(thing)
    assert "mongo_password" in write(settings)
    assert settings.credentials_for("a").password == SECRET


def test_no_secret_is_logged(config_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    config_file.write_text(json.dumps({**CONFIG, "prefetch_cuont": SECRET}))
    with caplog.at_level(logging.DEBUG):
        load_settings()
    assert "prefetch_cuont" in caplog.text
    assert SECRET not in caplog.text
