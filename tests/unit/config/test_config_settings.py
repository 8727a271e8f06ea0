from __future__ import annotations

import copy
import logging
import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neon_mq_connector.config import Credentials, MQSettings
from neon_mq_connector.errors import ConfigurationError

FILE = "/etc/neon/mq.json"
KEYS = st.text(max_size=12) | st.sampled_from(
    [
        "copy",
        "json",
        "model_config",
        "model_dump",
        "extra",
        "source",
        "__class__",
        "_source",
        "self",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
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


def endpoints(**config: Any) -> list[str]:
    return [str(endpoint) for endpoint in settings_of(**config).endpoints]


def test_server_and_port_name_it() -> None:
    assert endpoints(server="mq", port="5673") == ["mq:5673"]
    assert endpoints(server=" mq ") == ["mq:5672"]
    assert endpoints(server="::1") == endpoints(server="[::1]") == ["[::1]:5672"]


def test_servers_take_the_port_where_they_name_none() -> None:
    servers = ["mq1", "mq2:1", "[::1]:2", {"server": "mq3", "port": "3"}, {"server": "mq4"}]
    assert endpoints(servers=servers, port=9) == ["mq1:9", "mq2:1", "[::1]:2", "mq3:3", "mq4:9"]


def test_server_is_one_of_the_servers_only_when_it_is_given() -> None:
    assert endpoints(server="mq0", servers=["mq1"]) == ["mq0:5672", "mq1:5672"]
    assert endpoints(server=None, servers=["mq1"]) == ["mq1:5672"]
    assert endpoints(servers=["mq1"]) == ["mq1:5672"]
    assert endpoints(server="mq0", servers=[]) == ["mq0:5672"]


def test_a_server_that_is_named_twice_is_there_once_and_the_order_is_kept() -> None:
    assert endpoints(server="b", servers=["c", "b:5672", "a", "B", "c:1", "c"]) == [
        "b:5672",
        "c:5672",
        "a:5672",
        "c:1",
    ]


def test_the_port_of_tls_is_another_unless_it_is_given() -> None:
    assert endpoints(server="mq", tls=True) == ["mq:5671"]
    assert settings_of(ssl={}).port == 5671
    assert endpoints(server="mq", tls=True, port=5672) == ["mq:5672"]
    assert endpoints(server="mq", tls=False) == ["mq:5672"]
    assert endpoints(server="mq", tls={"enabled": "no"}) == ["mq:5672"]


# Values


@pytest.mark.parametrize(
    "key, good, value",
    [
        ("port", "1", 1),
        ("port", 65535, 65535),
        ("heartbeat", 0, 0),
        ("request_timeout", "2.5", 2.5),
        ("stop_timeout", 0, 0.0),
        ("wire_format", " JSON", "json"),
        ("prefetch_count", "200", 200),
        ("blocked_connection_timeout", 5, 5.0),
    ],
)
def test_a_good_value_is_taken(key: str, good: Any, value: Any) -> None:
    assert getattr(settings_of(**{key: good}), key) == value


@pytest.mark.parametrize(
    "config, words",
    [
        ({"port": 70000}, "port: 70000 is not a port (1-65535); set port in"),
        ({"MQ": {"port": 70000}}, "port: 70000 is not a port (1-65535); set MQ.port in"),
        ({"port": 0}, "port: 0 is not a port"),
        ({"port": "abc"}, "port: 'abc' is not a port"),
        ({"port": True}, "port: True is not a port"),
        ({"port": ""}, "port: an empty text is not a port"),
        ({"port": "9" * 5000}, "port: a text is not a port"),
        ({"server": ""}, "server: the value is empty"),
        ({"server": 5}, "server: 5 is not a host name"),
        ({"server": "mq:5672"}, "server: the value holds a port"),
        ({"servers": "mq"}, "servers: 'mq' is not a list of servers"),
        ({"servers": ["mq", "mq:x"]}, "servers[1]: the value has a port"),
        ({"users": []}, "users: a list is not an object"),
        ({"users": {"a": []}}, "users.a: a list is not an object with user and password"),
        ({"users": {"a": {"password": 5}}}, "users.a.password: a number is not a text"),
        ({"tls": "sure"}, "tls: 'sure' is not an object"),
        ({"tls": {}, "ssl": {}}, "tls and ssl are the same key"),
        ({"tls": {"verify": "maybe"}}, "tls.verify: 'maybe' is not true or false"),
        ({"heartbeat": 1e9}, "heartbeat: 1000000000.0 is not a whole number from 0"),
        ({"request_timeout": 0}, "request_timeout: 0 is not a number of seconds"),
        ({"request_timeout": float("nan")}, "request_timeout: nan is not a number"),
        ({"stop_timeout": -1}, "stop_timeout: -1 is not a number of seconds, 0 or more"),
        ({"prefetch_count": 0}, "prefetch_count: 0 is not a whole number from 1"),
        ({"ack_timeout_warning": 80}, "ack_timeout_warning: 80 is not a fraction"),
        ({"wire_format": "xml"}, 'wire_format: \'xml\' is not "legacy" or "json"'),
        ({"reconnect_delay_min": 31}, "30 is less than reconnect_delay_min, 31"),
    ],
)
def test_a_bad_value_is_one_line_that_names_key_and_file(config: Any, words: str) -> None:
    assert words in refused(config)


def test_several_bad_values_are_named_in_one_line() -> None:
    message = refused({"heartbeat": "x", "port": 0, "users": 4})
    assert "also wrong: " in message
    assert all(key in message for key in ("heartbeat", "port", "users"))


@pytest.mark.parametrize("config", [[], "x", 5, {"MQ": []}, {"MQ": "x"}])
def test_what_is_no_object_is_refused(config: Any) -> None:
    refused(config)


def test_null_is_as_good_as_left_out() -> None:
    nulls = dict.fromkeys([*MQSettings.model_fields, "ssl"])
    assert nulls.pop("message_expiration") is None
    assert settings_of(**nulls) == settings_of()
    assert settings_of(message_expiration=None).message_expiration is None
    assert settings_of(tls=dict.fromkeys(["ca_file", "verify"])).tls == settings_of(tls={}).tls


def test_settings_are_frozen_and_leave_the_dict_alone() -> None:
    config = {"MQ": {"server": "mq", "ssl": False, "users": {"a": {"user": "u", "x": [1]}}}}
    before = copy.deepcopy(config)
    settings = MQSettings.from_config(config)
    assert config == before
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        settings.tls.enabled = True


def test_settings_can_be_copied_and_pickled() -> None:
    settings = settings_of(
        server="mq", servers=["a:1"], users={"a": {"user": "u", "password": "p"}}
    )
    for again in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        assert again == settings
        assert again.credentials_for("a") == Credentials("u", "p")
        assert again.source == FILE


@given(st.dictionaries(st.sampled_from([*MQSettings.model_fields, "MQ", "ssl"]), VALUES))
def test_any_value_is_taken_or_refused_with_one_line(config: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        MQSettings.from_config(config, source=FILE)
        return
    refused(config)


# Keys of the service


@given(st.dictionaries(KEYS, VALUES))
def test_unknown_keys_never_fail_and_are_kept(config: dict[str, Any]) -> None:
    known = {*MQSettings.model_fields, "ssl", "MQ"}
    unknown = {key: value for key, value in config.items() if key not in known}
    of_user = {k: v for k, v in unknown.items() if k not in {"user", "username", "password"}}
    settings = MQSettings.from_config({**unknown, "users": {"a": of_user}})
    assert settings.extra == unknown
    assert settings.server == "localhost"
    assert settings.source == "the dict passed to the constructor"
    assert settings.service_properties("a") == of_user
    assert repr(settings)


def test_keys_that_are_no_texts_do_not_fail() -> None:
    settings = MQSettings.from_config({5: "x", "users": {7: {8: "y", "user": "u"}}})  # type: ignore[dict-item]
    assert settings.extra == {"5": "x"}
    assert settings.service_properties("7") == {"8": "y"}


def test_a_slip_of_the_pen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        MQSettings.from_config(
            {"MQ": {"prefetch_cuont": 5, "tls": {"verifi": 0}, "users": {"a": {"pasword": "p"}}}},
            source=FILE,
        )
    assert "MQ.prefetch_cuont" in caplog.text
    assert "is it prefetch_count?" in caplog.text
    assert "MQ.tls.verifi" in caplog.text
    assert "MQ.users.a.pasword" in caplog.text
    assert FILE in caplog.text


def test_a_key_like_no_setting_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings_of(mongo_url="x", server="mq", users={"a": {"limits": "x"}})
    assert caplog.text == ""


@pytest.mark.parametrize(
    "key, meant",
    [
        ("host", "is it server?"),
        ("username", "users.<service>"),
        ("user", "users.default"),
        ("password", "users.default"),
        ("vhost", "NEON_MQ_URL"),
        ("virtual_host", "NEON_MQ_URL"),
        ("mq", "is it MQ?"),
    ],
)
def test_a_key_at_the_wrong_place_is_logged_with_what_was_meant(
    key: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings_of(**{key: "s3cr3t"})
    (line,) = caplog.messages
    assert f"{key} in {FILE} is no setting" in line
    assert meant in line
    assert "s3cr3t" not in line


# Users


def test_user_and_username_are_the_same_and_user_goes_first() -> None:
    for names in ({"user": "u"}, {"username": "u"}, {"user": "u", "username": "v"}):
        settings = settings_of(users={"a": {**names, "password": "p"}})
        assert settings.credentials_for("a") == Credentials("u", "p")
        assert settings.service_properties("a") == {}


def test_empty_names_and_passwords_are_left_to_the_broker() -> None:
    settings = settings_of(users={"a": {"user": "", "password": ""}})
    assert settings.credentials_for("a") == Credentials("", "")


def test_a_service_that_is_not_configured_is_an_error_that_names_it_and_the_others() -> None:
    settings = settings_of(users={"one": {}, "two": {"user": "u", "password": "p"}})
    with pytest.raises(ValueError, match="'three'") as caught:
        settings.credentials_for("three")
    assert isinstance(caught.value, ConfigurationError)
    message = str(caught.value)
    assert "one, two" in message
    assert f"add users.three or users.default with user and password to {FILE}" in message


def test_the_path_of_a_missing_entry_is_that_in_the_source() -> None:
    settings = MQSettings.from_config({"MQ": {"users": {}}}, source=FILE)
    with pytest.raises(ConfigurationError, match=r"add MQ\.users\.three"):
        settings.credentials_for("three")


@pytest.mark.parametrize(
    "entry, missing",
    [
        ({"user": "u"}, "password"),
        ({"password": "p"}, "user"),
    ],
)
def test_an_entry_with_half_of_them_is_an_error_when_they_are_needed(
    entry: Any, missing: str
) -> None:
    settings = settings_of(users={"a": entry, "b": {"user": "u", "password": "p"}})
    assert settings.credentials_for("b") == Credentials("u", "p")
    with pytest.raises(ConfigurationError) as caught:
        settings.credentials_for("a")
    message = str(caught.value)
    assert f"'a' has no {missing}; set users.a.{missing} in {FILE}" in message
    assert "with credentials: b" in message


@pytest.mark.parametrize("entry", [{}, {"limits": {}}, None])
def test_an_entry_without_credentials_is_served_by_the_default(entry: Any) -> None:
    users = {"a": entry, "default": {"user": "all", "password": "p"}, "b": {"user": "b"}}
    settings = settings_of(users=users)
    assert settings.credentials_for("a") == Credentials("all", "p")
    assert settings.credentials_for("unknown") == Credentials("all", "p")
    with pytest.raises(ConfigurationError, match="'b' has no password"):
        settings.credentials_for("b")
    with pytest.raises(ConfigurationError, match=r"add users\.a or users\.default"):
        settings_of(users={"a": entry}).credentials_for("a")


def test_properties_of_a_service_are_read_by_key() -> None:
    limits = {"longest": 5}
    entry = {"user": "u", "password": "p", "limits": limits, "colour": "red", "nothing": None}
    settings = settings_of(users={"a": entry})
    assert settings.service_properties("a", "limits") == limits
    assert settings.service_properties("a", "other") == {}
    assert settings.service_properties("a", "nothing") == {}
    assert settings.service_properties("b", "limits") == {}
    assert settings.service_properties("b") == {}
    assert settings.service_properties("a") == {
        "limits": limits,
        "colour": "red",
        "nothing": None,
    }
    settings.service_properties("a", "limits")["longest"] = 6
    assert limits == {"longest": 5}


def test_properties_that_are_no_object_are_an_error_that_names_the_key() -> None:
    settings = MQSettings.from_config({"MQ": {"users": {"a": {"limits": 5}}}}, source=FILE)
    with pytest.raises(ConfigurationError, match=r"users\.a\.limits: a number") as caught:
        settings.service_properties("a", "limits")
    assert f"MQ.users.a.limits an object in {FILE}" in str(caught.value)


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\x1b[31m", "\u2028", "\ud800", "ä"])
def test_a_name_that_would_break_the_line_is_escaped(name: str) -> None:
    message = refused({"users": {name: 5}}, source="/etc/mq.json")
    message.encode()
    settings = MQSettings.from_config({"users": {name: {}}}, source=f"/etc/{name}.json")
    for service in (name, f"other {name}"):
        with pytest.raises(ConfigurationError) as caught:
            settings.credentials_for(service)
        assert str(caught.value).isprintable()
