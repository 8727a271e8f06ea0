from __future__ import annotations

import copy
import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neon_mq_connector.config import Credentials, Endpoint, MQSettings
from neon_mq_connector.errors import ConfigurationError
from tests.unit.codec.oracle import json_values

FILE = "/etc/neon/mq.json"
#: Those that a model of pydantic's has attributes of, too.
KEYS = st.text(max_size=12) | st.sampled_from(
    ["copy", "model_config", "model_dump", "extra", "source", "__class__", "_source", "self"]
)


def refused(config: Any, source: str = FILE) -> str:
    with pytest.raises(ConfigurationError) as caught:
        MQSettings.from_config(config, source=source)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert source in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return message


def settings_of(**config: Any) -> MQSettings:
    return MQSettings.from_config(config, source=FILE)


# Where the broker is


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"server": "mq", "port": "5673"}, ["mq:5673"]),
        ({"server": " mq "}, ["mq:5672"]),
        ({"server": "::1"}, ["[::1]:5672"]),
        (
            {"servers": ["mq1", "mq2:1", "[::1]:2", {"server": "mq3", "port": "3"}], "port": 9},
            ["mq1:9", "mq2:1", "[::1]:2", "mq3:3"],
        ),
        ({"server": "mq0", "servers": ["mq1"]}, ["mq0:5672", "mq1:5672"]),
        ({"server": None, "servers": ["mq1"]}, ["mq1:5672"]),
        ({"server": "mq0", "servers": []}, ["mq0:5672"]),
        (
            {"server": "b", "servers": ["c", "b:5672", "a", "B", "c:1", "c"]},
            ["b:5672", "c:5672", "a:5672", "c:1"],
        ),
        ({"server": "mq", "tls": True}, ["mq:5671"]),
        ({"server": "mq", "ssl": {}}, ["mq:5671"]),
        ({"server": "mq", "tls": True, "port": 5672}, ["mq:5672"]),
        ({"server": "mq", "tls": {"enabled": "no"}}, ["mq:5672"]),
        ({"servers": [" mq:1\n", {"server": "mq", "port": 2, "weight": 3}]}, ["mq:1", "mq:2"]),
        (
            {"servers": [{"server": "[::1]", "port": None}, "fe80::1"]},
            ["[::1]:5672", "[fe80::1]:5672"],
        ),
    ],
)
def test_each_server_is_there_once_in_its_order_with_its_port(
    config: dict[str, Any], expected: list[str]
) -> None:
    assert [str(endpoint) for endpoint in settings_of(**config).endpoints] == expected


@given(
    st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,60}[a-zA-Z0-9])?", fullmatch=True)
    | st.ip_addresses(v=6).map(str),
    st.integers(1, 65535),
)
def test_a_server_is_read_alike_from_each_form(host: str, port: int) -> None:
    text = str(Endpoint(host, port))
    for entry in (text, {"server": host, "port": str(port)}):
        assert settings_of(servers=[entry]).endpoints == (Endpoint(host, port),)
    assert settings_of(server=host, port=port).endpoints == (Endpoint(host, port),)


@pytest.mark.parametrize(
    "value, words",
    [
        ("", "empty"),
        (":5672", "empty"),
        ("mq:", "port"),
        *((f"mq:{port}", "port") for port in ("0", "99999", "٣", "5_672", "+5672", "5672.0")),
        ("mq:5672:5673", "IPv6"),
        ("[::1", "IPv6"),
        ("[mq]", "IPv6"),
        ("amqp://me:secret@mq:5672/", "URL"),
        ("me@mq", "URL"),
        ("mq1,mq2", "several"),
        ("mq one", "host name"),
        ("x" * 254, "host name"),
        (5672, "not a server"),
        ({}, '"server"'),
        ({"server": 5}, "not a server"),
        ({"server": ""}, "empty"),
        ({"server": "mq", "port": True}, "port"),
    ],
)
def test_what_is_no_server_is_refused_with_a_reason(value: Any, words: str) -> None:
    message = refused({"servers": [value]})
    assert words in message
    assert "secret" not in message


# Values


@pytest.mark.parametrize(
    "key, good, value",
    [
        ("port", "1", 1),
        ("heartbeat", 0, 0),
        ("request_timeout", "2.5", 2.5),
        ("stop_timeout", 0, 0.0),
        ("wire_format", " JSON", "json"),
        ("prefetch_count", "200", 200),
    ],
)
def test_a_good_value_is_taken(key: str, good: Any, value: Any) -> None:
    assert getattr(settings_of(**{key: good}), key) == value


@pytest.mark.parametrize(
    "config, words",
    [
        ({"port": 70000}, "port: 70000 is not a port (1-65535); set port in"),
        ([], ""),
        ({"MQ": "x"}, ""),
        ({"MQ": {"port": 70000}}, "port: 70000 is not a port (1-65535); set MQ.port in"),
        ({"port": "abc"}, "port: a text is not a port"),
        ({"port": True}, "port: True is not a port"),
        ({"port": "9" * 5000}, "port: a text is not a port"),
        ({"server": ""}, "server: the value is empty"),
        ({"server": 5}, "server: 5 is not a host name"),
        ({"server": "mq:5672"}, "server: the value holds a port"),
        ({"servers": "mq"}, "servers: a text is not a list of servers"),
        ({"servers": ["mq", "mq:x"]}, "servers[1]: the value has a port"),
        ({"users": []}, "users: a list is not an object"),
        ({"users": {"a": []}}, "users.a: a list is not an object with user and password"),
        ({"users": {"a": {"password": 5}}}, "users.a.password: a number is not a text"),
        ({"tls": "sure"}, "tls: a text is not an object"),
        ({"tls": {}, "ssl": {}}, "tls and ssl are the same key"),
        ({"tls": {"verify": "maybe"}}, "tls.verify: a text is not true or false"),
        ({"heartbeat": 1e9}, "heartbeat: 1000000000.0 is not a whole number from 0"),
        ({"request_timeout": 0}, "request_timeout: 0 is not a number of seconds"),
        ({"request_timeout": float("nan")}, "request_timeout: nan is not a number"),
        ({"stop_timeout": -1}, "stop_timeout: -1 is not a number of seconds, 0 or more"),
        ({"prefetch_count": 0}, "prefetch_count: 0 is not a whole number from 1"),
        ({"ack_timeout_warning": 80}, "ack_timeout_warning: 80 is not a fraction"),
        ({"wire_format": "xml"}, 'wire_format: a text is not "legacy" or "json"'),
        ({"reconnect_delay_min": 31}, "30 is less than reconnect_delay_min, 31"),
    ],
)
def test_a_bad_value_is_one_line_that_names_key_and_file(config: Any, words: str) -> None:
    assert words in refused(config)


def test_several_bad_values_are_named_in_one_line() -> None:
    message = refused({"heartbeat": "x", "port": 0, "users": 4})
    assert all(key in message for key in ("also wrong", "heartbeat", "port", "users"))


def test_null_is_as_good_as_left_out() -> None:
    nulls = dict.fromkeys([*MQSettings.model_fields, "ssl"])
    assert nulls.pop("message_expiration") is None
    assert settings_of(**nulls) == settings_of()
    assert settings_of(message_expiration=None).message_expiration is None
    assert settings_of(tls=dict.fromkeys(["ca_file", "verify"])).tls == settings_of(tls={}).tls


def test_settings_are_frozen_values_that_leave_the_dict_alone() -> None:
    config = {"MQ": {"servers": ["a:1"], "ssl": False, "users": {"a": {"user": "u", "x": [1]}}}}
    before = copy.deepcopy(config)
    settings = MQSettings.from_config(config, source=FILE)
    assert config == before
    for part, name in ((settings, "port"), (settings.tls, "enabled")):
        with pytest.raises(ValidationError):
            setattr(part, name, 1)
    for again in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        assert again == settings
        assert again.users["a"].extra == {"x": [1]}
        assert again.source == FILE


@given(st.dictionaries(st.sampled_from([*MQSettings.model_fields, "MQ", "ssl"]), json_values))
def test_any_value_is_taken_or_refused_with_one_line(config: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        MQSettings.from_config(config, source=FILE)
        return
    refused(config)


# Keys of the service


@given(st.dictionaries(KEYS, json_values))
def test_unknown_keys_never_fail_and_are_kept(config: dict[str, Any]) -> None:
    known = {*MQSettings.model_fields, "ssl", "MQ"}
    unknown = {key: value for key, value in config.items() if key not in known}
    of_user = {k: v for k, v in unknown.items() if k not in {"user", "username", "password"}}
    settings = MQSettings.from_config({**unknown, "users": {"a": of_user}})
    assert settings.extra == unknown
    assert settings.server == "localhost"
    assert settings.source == "the dict passed to the constructor"
    assert settings.users["a"].extra == of_user
    assert repr(settings)


def test_keys_that_are_no_texts_do_not_fail() -> None:
    settings = MQSettings.from_config({5: "x", "users": {7: {8: "y", "user": "u"}}})  # type: ignore[dict-item]
    assert settings.extra == {"5": "x"}
    assert settings.users["7"].extra == {"8": "y"}


@pytest.mark.parametrize(
    "config, told",
    [
        (
            {"prefetch_cuont": "s3cr3t"},
            "is no setting: is it prefetch_count?",
        ),
        ({"MQ": {"tls": {"verifi": 0}}}, "MQ.tls.verifi"),
        ({"MQ": {"users": {"a": {"pasword": "s3cr3t"}}}}, "MQ.users.a.pasword"),
        ({"host": "x"}, "is it server?"),
        ({"username": "x"}, "users.<service>"),
        ({"password": "s3cr3t"}, "users.default"),
        ({"vhost": "x"}, "NEON_MQ_URL"),
        ({"mq": {}}, "is it MQ?"),
        ({"mongo_url": "x", "users": {"a": {"limits": "x"}}}, None),
    ],
)
def test_a_key_that_may_be_a_mistake_is_logged_with_what_was_meant(
    config: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    MQSettings.from_config(config, source=FILE)
    assert len(caplog.messages) == (told is not None)
    assert (told or "") in caplog.text
    assert "s3cr3t" not in caplog.text


# Users


@pytest.mark.parametrize(
    "names, user",
    [({"user": "u"}, "u"), ({"username": "u"}, "u"), ({"user": "", "username": "v"}, "")],
)
def test_user_and_username_are_the_same_and_user_goes_first(names: Any, user: str) -> None:
    settings = settings_of(users={"a": {**names, "password": ""}})
    assert settings.credentials_for("a") == Credentials(user, "")
    assert settings.users["a"].extra == {}


@pytest.mark.parametrize(
    "service, entry, told",
    [
        ("b", {}, f"add MQ.users.b or MQ.users.default with user and password to {FILE}"),
        ("unknown", {}, "users has a, b; add MQ.users.unknown"),
        ("b", {"user": "u"}, f"'b' has no password; set MQ.users.b.password in {FILE}"),
        ("b", {"password": "p"}, f"'b' has no user; set MQ.users.b.user in {FILE}"),
    ],
)
def test_credentials_that_are_missing_are_an_error_that_names_the_key(
    service: str, entry: Any, told: str
) -> None:
    users = {"a": {"user": "u", "password": "p"}, "b": entry}
    settings = MQSettings.from_config({"MQ": {"users": users}}, source=FILE)
    assert settings.credentials_for("a") == Credentials("u", "p")
    with pytest.raises(ConfigurationError) as caught:
        settings.credentials_for(service)
    assert told in str(caught.value)
    assert f"'{service}' has no " in str(caught.value)


@pytest.mark.parametrize("entry", [{}, {"limits": {}}, None])
def test_an_entry_without_credentials_is_served_by_the_default(entry: Any) -> None:
    users = {"a": entry, "default": {"user": "all", "password": "p"}, "b": {"user": "b"}}
    settings = settings_of(users=users)
    assert settings.credentials_for("a") == Credentials("all", "p")
    assert settings.credentials_for("unknown") == Credentials("all", "p")
    with pytest.raises(ConfigurationError, match="'b' has no password"):
        settings.credentials_for("b")


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\x1b[31m", "\u2028", "\ud800", "ä"])
def test_a_name_that_would_break_the_line_is_escaped(name: str) -> None:
    message = refused({"users": {name: 5}}, source="/etc/mq.json")
    message.encode()
    settings = MQSettings.from_config({"users": {name: {}}}, source=f"/etc/{name}.json")
    for service in (name, f"other {name}"):
        with pytest.raises(ConfigurationError) as caught:
            settings.credentials_for(service)
        assert str(caught.value).isprintable()
