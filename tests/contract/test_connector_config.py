"""Compatibility contract: what a connector makes of its configuration and its environment.

Covers `config`, credentials, connection parameters, configurable properties, the rules of virtual
hosts and their prefixes, testing mode, and where configuration is looked for. No broker needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pika
import pytest

from neon_mq_connector import MQConnector
from tests.contract.configurations import SERVICE, make_config

USERS = {
    SERVICE: {"user": "ann", "password": "secret-of-ann"},
    "configured": {
        "username": "bob",
        "password": "secret-of-bob",
        "properties": {"sync_period": 3, "observe_period": 4, "vhost_prefix": "pre"},
        "other_properties": {"observe_period": 7, "greeting": "hallo", "unknown": 1},
    },
}


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"server": "mq.example.org", "port": 5673, "users": USERS}


@pytest.fixture
def connector(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    return MQConnector(settings, SERVICE)


class TestConfig:
    def test_the_configuration_is_readable_and_names_the_broker_and_the_user(
        self, settings: dict[str, Any]
    ) -> None:
        before = json.dumps(settings)
        for given in (settings, {"MQ": settings}):
            connector = MQConnector(given, SERVICE)
            assert connector.config["users"][SERVICE]["user"] == "ann"
            assert connector.service_config == USERS[SERVICE]
            assert isinstance(connector.mq_credentials, pika.PlainCredentials)
            assert connector.mq_credentials.username == "ann"
            assert connector.mq_credentials.password == "secret-of-ann"
            assert "secret-of-ann" not in repr(connector)
            parameters = connector.get_connection_params("/chat")
            assert isinstance(parameters, pika.ConnectionParameters)
            assert (parameters.host, parameters.port) == ("mq.example.org", 5673)
            assert parameters.virtual_host == "/chat"
            assert isinstance(parameters.credentials, pika.PlainCredentials)
            assert parameters.credentials.username == "ann"
            assert dict(MQConnector.init_config(given)) == settings
        assert json.dumps(settings) == before

    @pytest.mark.parametrize("wrapped", [True, False])
    def test_a_configuration_set_later_takes_effect(self, connector: Any, wrapped: bool) -> None:
        other = make_config("elsewhere.example.org", 5999, "carl", "secret")
        connector.config = {"MQ": other} if wrapped else other
        assert connector.config["server"] == "elsewhere.example.org"
        assert connector.mq_credentials.username == "carl"
        parameters = connector.get_connection_params("/")
        assert (parameters.host, parameters.port) == ("elsewhere.example.org", 5999)

    def test_a_service_that_is_not_configured_has_no_credentials(
        self, settings: dict[str, Any]
    ) -> None:
        stranger = MQConnector(settings, "stranger")
        assert stranger.service_config == {}
        with pytest.raises(Exception, match="stranger"):
            _ = stranger.mq_credentials

    def test_keyword_arguments_are_passed_on_to_pika(self, connector: Any) -> None:
        connector.vhost_prefix = "x"  # the virtual host is taken as it is
        parameters = connector.get_connection_params(
            "/chat", heartbeat=7, blocked_connection_timeout=3, connection_attempts=2
        )
        assert parameters.virtual_host == "/chat"
        assert (parameters.heartbeat, parameters.connection_attempts) == (7, 2)
        assert parameters.blocked_connection_timeout == 3
        with pytest.raises(TypeError):
            connector.get_connection_params("/", nonsense=1)


class TestConfigurableProperties:
    def test_they_are_read_from_the_services_entry(
        self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connector = MQConnector(settings, "configured")
        assert (connector.sync_period, connector.observe_period) == (3, 4)
        assert connector.vhost_prefix == "pre"
        connector.vhost = "/chat"
        assert connector.vhost == "/pre_chat"

    @pytest.mark.parametrize(
        "key, value",
        [
            ("default_testing_prefix", "trial"),
            ("testing_envs", ("ONE_TESTING",)),
            ("testing_prefix_envs", ("ONE_PREFIX",)),
        ],
    )
    def test_testing_settings_are_configurable_too(self, key: str, value: Any) -> None:
        settings = make_config("h", 1, "u", "p", properties={key: value})
        assert getattr(MQConnector(settings, SERVICE), key) == value

    @pytest.mark.parametrize("where", ["before the initialiser", "on the class"])
    def test_a_property_key_chooses_the_entry(self, settings: dict[str, Any], where: str) -> None:
        class Before(MQConnector):
            def __init__(self, *arguments: Any) -> None:
                self.property_key = "other_properties"
                super().__init__(*arguments)

        class OnTheClass(MQConnector):
            property_key = "other_properties"

        kind = OnTheClass if where == "on the class" else Before
        service = kind(settings, "configured")
        assert service.property_key == "other_properties"
        assert (service.observe_period, service.sync_period) == (7, 10)

    def test_a_service_adds_properties_of_its_own(self, settings: dict[str, Any]) -> None:
        class Service(MQConnector):
            property_key = "other_properties"
            greeting: str
            patience: int

            @property
            def service_configurable_properties(self) -> dict[str, Any]:
                return {"greeting": "hello", "patience": 5}

        configured, default = Service(settings, "configured"), Service(settings, SERVICE)
        assert (configured.greeting, configured.patience) == ("hallo", 5)
        assert (default.greeting, default.patience) == ("hello", 5)
        assert not hasattr(configured, "unknown")


class TestVhost:
    @pytest.mark.parametrize(
        "testing, prefix, given, seen",
        [
            ("", "", "/chat", "/chat"),
            ("", "", "chat", "/chat"),
            ("", "", "/", "/"),
            ("", "", "", "/"),
            ("", "", "/chat_", "/chat"),
            ("", "", "/x_chat", "/x_chat"),
            ("", "x", "/chat", "/x_chat"),
            ("", "x", "chat", "/x_chat"),
            ("", "x", "/x_chat", "/x_chat"),
            ("", "x", "x_chat", "/x_chat"),
            ("", "x", "/", "/x"),
            ("", "x", "", "/x"),
            ("", "x", "/x", "/x"),
            ("", "x", "/x_", "/x"),
            ("", "x", "/chat_", "/x_chat"),
            ("", "x", "/test_chat", "/x_test_chat"),
            ("1", "", "/chat", "/test_chat"),
            ("1", "", "chat", "/test_chat"),
            ("1", "", "/test_chat", "/test_chat"),
            ("1", "", "/", "/test"),
            ("1", "", "/test", "/test"),
            ("1", "", "/chat_", "/test_chat"),
            ("1", "x", "/chat", "/test_x_chat"),
            ("1", "x", "/x_chat", "/test_x_chat"),
            ("1", "x", "/test_chat", "/test_x_chat"),
            ("1", "test_x", "/chat", "/test_x_chat"),
            ("1", "x", "/", "/test_x"),
        ],
    )
    def test_it_bears_the_prefix_of_testing_and_the_services_own(
        self,
        connector: Any,
        monkeypatch: pytest.MonkeyPatch,
        testing: str,
        prefix: str,
        given: str,
        seen: str,
    ) -> None:
        monkeypatch.setenv("MQ_TESTING", testing)
        connector.vhost_prefix = prefix
        connector.vhost = given
        assert [connector.vhost, connector.vhost] == [seen, seen]
        connector.vhost = connector.vhost
        assert connector.vhost == seen

    @pytest.mark.parametrize("prefix, seen", [("", "/chat"), ("x", "/x_chat")])
    @pytest.mark.parametrize("attribute", ["_vhost", "vhost"])
    def test_a_subclass_may_set_either_attribute_and_the_prefix(
        self, settings: dict[str, Any], attribute: str, prefix: str, seen: str
    ) -> None:
        class Service(MQConnector):
            def __init__(self) -> None:
                super().__init__(settings, SERVICE)
                setattr(self, attribute, "/chat")
                self.vhost_prefix = prefix

        assert Service().vhost == seen


class TestTestingMode:
    @pytest.mark.parametrize(
        "variable, value, on",
        [
            ("UNRELATED", "1", False),
            ("MQ_TESTING", "1", True),
            ("CONTRACT_SERVICE_TESTING", "1", True),
            ("CONFIGURED_TESTING", "1", False),  # of another service
            ("MQ_TESTING", "0", False),
            ("MQ_TESTING", "", False),
            ("MQ_TESTING", "false", False),
        ],
    )
    def test_a_variable_turns_it_on_or_off(
        self,
        connector: Any,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
        value: str,
        on: bool,
    ) -> None:
        monkeypatch.setenv(variable, value)
        assert connector.testing_mode is on

    @pytest.mark.parametrize(
        "variables, prefix, seen",
        [
            ({"MQ_TESTING_PREFIX": "abc"}, "abc", "/chat"),  # nothing outside of testing mode
            ({"MQ_TESTING": "1"}, "trial", "/trial_chat"),
            ({"MQ_TESTING": "1", "MQ_TESTING_PREFIX": "abc"}, "abc", "/abc_chat"),
            (
                {
                    "MQ_TESTING": "1",
                    "MQ_TESTING_PREFIX": "abc",
                    "CONTRACT_SERVICE_TESTING_PREFIX": "def",
                },
                "def",
                "/def_chat",
            ),
        ],
        ids=["off", "default", "general", "of the service"],
    )
    def test_a_variable_sets_its_prefix(
        self,
        connector: Any,
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
        prefix: str,
        seen: str,
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        connector.default_testing_prefix = "trial"
        connector.vhost = "/chat"
        assert (connector.testing_prefix, connector.vhost) == (prefix, seen)

    def test_a_service_may_name_variables_of_its_own(
        self, connector: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connector.testing_envs = ("SOMETHING_ELSE",)
        monkeypatch.setenv("MQ_TESTING", "1")
        assert connector.testing_mode is False
        monkeypatch.setenv("SOMETHING_ELSE", "1")
        assert connector.testing_mode is True


def test_a_connector_without_configuration_reads_the_file_that_a_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.json"
    path.write_text(json.dumps(make_config("from.variable", 5672, "u", "p")))
    monkeypatch.setenv("NEON_MQ_CONFIG_PATH", str(path))
    connector = MQConnector(None, SERVICE)
    assert connector.get_connection_params("/").host == "from.variable"
    assert connector.mq_credentials.username == "u"
    assert MQConnector.init_config()["server"] == "from.variable"
