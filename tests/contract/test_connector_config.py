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
from neon_mq_connector.config import Configuration
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
def connector_class() -> Any:
    return MQConnector


@pytest.fixture
def connector(
    connector_class: Any, settings: dict[str, Any], quiet_environment: pytest.MonkeyPatch
) -> Any:
    return connector_class(settings, SERVICE)


class TestConfig:
    def test_the_configuration_is_readable(self, connector: Any) -> None:
        assert connector.config["users"][SERVICE]["user"] == "ann"

    def test_a_configuration_may_be_wrapped_in_its_section(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        connector = connector_class({"MQ": settings}, SERVICE)
        assert connector.mq_credentials.username == "ann"
        assert connector.service_config["password"] == "secret-of-ann"
        assert connector.get_connection_params("/").host == "mq.example.org"

    @pytest.mark.parametrize("wrapped", [True, False])
    def test_a_configuration_set_later_takes_effect(self, connector: Any, wrapped: bool) -> None:
        other = make_config("elsewhere.example.org", 5999, "carl", "secret")
        connector.config = {"MQ": other} if wrapped else other
        assert connector.config["server"] == "elsewhere.example.org"
        assert connector.mq_credentials.username == "carl"
        assert connector.get_connection_params("/").host == "elsewhere.example.org"
        assert connector.get_connection_params("/").port == 5999

    def test_the_callers_dict_is_left_as_it_was(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        before = json.dumps(settings)
        connector = connector_class(settings, "configured")
        connector.get_connection_params("/")
        assert json.dumps(settings) == before

    def test_keys_that_the_library_does_not_know_are_kept_for_the_service(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        connector = connector_class({**settings, "own": {"deep": [1]}}, SERVICE)
        assert connector.config["own"] == {"deep": [1]}

    def test_the_service_config_is_the_services_entry(self, connector: Any) -> None:
        assert connector.service_config == USERS[SERVICE]

    def test_the_service_config_is_empty_where_there_is_no_entry(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        assert connector_class(settings, "stranger").service_config == {}

    def test_init_config_takes_the_section_out_of_its_wrapper(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        assert dict(connector_class.init_config({"MQ": settings})) == settings
        assert dict(connector_class.init_config(settings)) == settings

    def test_no_password_is_in_the_repr_of_a_connector(self, connector: Any) -> None:
        assert "secret-of-ann" not in repr(connector)


class TestCredentials:
    def test_user_and_password_are_read(self, connector: Any) -> None:
        assert isinstance(connector.mq_credentials, pika.PlainCredentials)
        assert connector.mq_credentials.username == "ann"
        assert connector.mq_credentials.password == "secret-of-ann"

    def test_username_is_read_as_well_as_user(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        assert connector_class(settings, "configured").mq_credentials.username == "bob"

    def test_asking_for_credentials_of_an_unconfigured_service_raises(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        with pytest.raises(Exception, match="stranger"):
            _ = connector_class(settings, "stranger").mq_credentials


class TestConnectionParameters:
    def test_they_name_the_broker_the_vhost_and_the_user(self, connector: Any) -> None:
        parameters = connector.get_connection_params("/chat")
        assert isinstance(parameters, pika.ConnectionParameters)
        assert parameters.host == "mq.example.org"
        assert parameters.port == 5673
        assert parameters.virtual_host == "/chat"
        assert isinstance(parameters.credentials, pika.PlainCredentials)
        assert parameters.credentials.username == "ann"

    def test_the_vhost_is_taken_as_it_is(self, connector: Any) -> None:
        connector.vhost_prefix = "x"
        assert connector.get_connection_params("/chat").virtual_host == "/chat"

    def test_server_and_port_have_defaults(self, connector_class: Any) -> None:
        connector = connector_class({"server": "h", "users": USERS}, SERVICE)
        assert connector.get_connection_params("/").port == 5672
        connector = connector_class({"users": USERS}, SERVICE)
        assert connector.get_connection_params("/").host == "localhost"

    def test_the_port_may_be_text(self, connector_class: Any, settings: dict[str, Any]) -> None:
        connector = connector_class({**settings, "port": "5674"}, SERVICE)
        assert connector.get_connection_params("/").port == 5674

    def test_keyword_arguments_are_passed_on_to_pika(self, connector: Any) -> None:
        parameters = connector.get_connection_params(
            "/", heartbeat=7, blocked_connection_timeout=3, connection_attempts=2
        )
        assert parameters.heartbeat == 7
        assert parameters.blocked_connection_timeout == 3
        assert parameters.connection_attempts == 2

    def test_a_keyword_that_pika_does_not_know_is_refused(self, connector: Any) -> None:
        with pytest.raises(TypeError):
            connector.get_connection_params("/", nonsense=1)


class TestConfigurableProperties:
    def test_they_are_read_from_the_services_entry(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        connector = connector_class(settings, "configured")
        assert connector.sync_period == 3
        assert connector.observe_period == 4
        assert connector.vhost_prefix == "pre"

    def test_the_prefix_from_the_configuration_applies_to_the_vhost(
        self,
        connector_class: Any,
        settings: dict[str, Any],
        quiet_environment: pytest.MonkeyPatch,
    ) -> None:
        connector = connector_class(settings, "configured")
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
    def test_testing_settings_are_configurable_too(
        self, connector_class: Any, key: str, value: Any
    ) -> None:
        settings = make_config("h", 1, "u", "p", properties={key: value})
        assert getattr(connector_class(settings, SERVICE), key) == value

    def test_a_property_key_set_before_the_initialiser_chooses_the_entry(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        class Service(connector_class):  # type: ignore[misc]
            def __init__(self) -> None:
                self.property_key = "other_properties"
                super().__init__(settings, "configured")

        service = Service()
        assert service.property_key == "other_properties"
        assert service.observe_period == 7
        assert service.sync_period == 10

    def test_a_property_key_on_the_class_chooses_the_entry(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        class Service(connector_class):  # type: ignore[misc]
            property_key = "other_properties"

        assert Service(settings, "configured").observe_period == 7

    def test_a_service_adds_properties_of_its_own(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        class Service(connector_class):  # type: ignore[misc]
            def __init__(self, name: str) -> None:
                self.property_key = "other_properties"
                super().__init__(settings, name)

            @property
            def service_configurable_properties(self) -> dict[str, Any]:
                return {"greeting": "hello", "patience": 5}

        configured, default = Service("configured"), Service(SERVICE)
        assert (configured.greeting, configured.patience) == ("hallo", 5)
        assert (default.greeting, default.patience) == ("hello", 5)
        assert not hasattr(configured, "unknown")


class TestVhost:
    @pytest.mark.parametrize(
        "given, seen",
        [
            ("/chat", "/chat"),
            ("chat", "/chat"),
            ("/", "/"),
            ("", "/"),
            ("/chat_", "/chat"),
            ("/x_chat", "/x_chat"),
        ],
    )
    def test_without_a_prefix(self, connector: Any, given: str, seen: str) -> None:
        connector.vhost = given
        assert connector.vhost == seen

    @pytest.mark.parametrize(
        "given, seen",
        [
            ("/chat", "/x_chat"),
            ("chat", "/x_chat"),
            ("/x_chat", "/x_chat"),
            ("x_chat", "/x_chat"),
            ("/", "/x"),
            ("", "/x"),
            ("/x", "/x"),
            ("/x_", "/x"),
            ("/chat_", "/x_chat"),
            ("/test_chat", "/x_test_chat"),
        ],
    )
    def test_with_a_prefix(self, connector: Any, given: str, seen: str) -> None:
        connector.vhost_prefix = "x"
        connector.vhost = given
        assert connector.vhost == seen

    def test_reading_it_twice_does_not_add_the_prefix_twice(self, connector: Any) -> None:
        connector.vhost_prefix = "x"
        connector.vhost = "/chat"
        assert [connector.vhost, connector.vhost] == ["/x_chat", "/x_chat"]
        connector.vhost = connector.vhost
        assert connector.vhost == "/x_chat"

    @pytest.mark.parametrize("prefix, seen", [("", "/chat"), ("x", "/x_chat")])
    def test_a_subclass_may_set_the_underscored_attribute(
        self, connector_class: Any, settings: dict[str, Any], prefix: str, seen: str
    ) -> None:
        class Service(connector_class):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(settings, SERVICE)
                self._vhost = "/chat"

        service = Service()
        service.vhost_prefix = prefix
        assert service.vhost == seen

    def test_a_subclass_may_override_the_prefix_on_the_class_after_construction(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        class Service(connector_class):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(settings, SERVICE)
                self.vhost = "/chat"
                self.vhost_prefix = "y"

        assert Service().vhost == "/y_chat"


class TestTestingMode:
    def test_it_is_off_where_no_variable_says_so(self, connector: Any) -> None:
        assert connector.testing_mode is False

    @pytest.mark.parametrize("variable", ["MQ_TESTING", "CONTRACT_SERVICE_TESTING"])
    def test_a_variable_turns_it_on(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch, variable: str
    ) -> None:
        quiet_environment.setenv(variable, "1")
        assert connector.testing_mode is True

    @pytest.mark.parametrize("value", ["0", "", "false"])
    def test_a_variable_may_say_no(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch, value: str
    ) -> None:
        quiet_environment.setenv("MQ_TESTING", value)
        assert connector.testing_mode is False

    def test_the_variable_of_one_service_does_not_concern_another(
        self,
        connector_class: Any,
        settings: dict[str, Any],
        quiet_environment: pytest.MonkeyPatch,
    ) -> None:
        quiet_environment.setenv("CONTRACT_SERVICE_TESTING", "1")
        assert connector_class(settings, "configured").testing_mode is False

    @pytest.mark.parametrize(
        "given, seen",
        [
            ("/chat", "/test_chat"),
            ("chat", "/test_chat"),
            ("/test_chat", "/test_chat"),
            ("/", "/test"),
            ("/test", "/test"),
            ("/chat_", "/test_chat"),
        ],
    )
    def test_the_vhost_bears_the_testing_prefix(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch, given: str, seen: str
    ) -> None:
        quiet_environment.setenv("MQ_TESTING", "1")
        connector.vhost = given
        assert connector.vhost == seen

    def test_the_testing_prefix_comes_before_the_services_own(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch
    ) -> None:
        quiet_environment.setenv("MQ_TESTING", "1")
        connector.vhost_prefix = "x"
        connector.vhost = "/chat"
        assert connector.vhost == "/test_x_chat"

    def test_the_testing_prefix_follows_its_default(self, connector: Any) -> None:
        connector.default_testing_prefix = "trial"
        assert connector.testing_prefix == "trial"

    def test_a_variable_sets_the_testing_prefix(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch
    ) -> None:
        quiet_environment.setenv("MQ_TESTING", "1")
        quiet_environment.setenv("MQ_TESTING_PREFIX", "abc")
        connector.vhost = "/chat"
        assert connector.testing_prefix == "abc"
        assert connector.vhost == "/abc_chat"

    def test_the_services_own_variable_goes_before_the_general_one(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch
    ) -> None:
        quiet_environment.setenv("MQ_TESTING", "1")
        quiet_environment.setenv("MQ_TESTING_PREFIX", "abc")
        quiet_environment.setenv("CONTRACT_SERVICE_TESTING_PREFIX", "def")
        connector.vhost = "/chat"
        assert connector.vhost == "/def_chat"

    def test_the_testing_prefix_means_nothing_outside_of_testing_mode(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch
    ) -> None:
        quiet_environment.setenv("MQ_TESTING_PREFIX", "abc")
        connector.vhost = "/chat"
        assert connector.vhost == "/chat"

    def test_a_service_may_name_variables_of_its_own(
        self, connector: Any, quiet_environment: pytest.MonkeyPatch
    ) -> None:
        connector.testing_envs = ("SOMETHING_ELSE",)
        quiet_environment.setenv("MQ_TESTING", "1")
        assert connector.testing_mode is False
        quiet_environment.setenv("SOMETHING_ELSE", "1")
        assert connector.testing_mode is True


class TestSources:
    """Where configuration comes from when the constructor gets none."""

    @pytest.fixture
    def home(self, tmp_path: Path, quiet_environment: pytest.MonkeyPatch) -> Path:
        quiet_environment.setenv("HOME", str(tmp_path))
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            quiet_environment.delenv(name, raising=False)
        return tmp_path

    @staticmethod
    def write(path: Path, settings: dict[str, Any]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
        return path

    def test_a_connector_without_configuration_reads_that_file(
        self, home: Path, quiet_environment: pytest.MonkeyPatch, connector_class: Any
    ) -> None:
        path = self.write(home / "some.json", make_config("from.variable", 5672, "u", "p"))
        quiet_environment.setenv("NEON_MQ_CONFIG_PATH", str(path))
        connector = connector_class(None, SERVICE)
        assert connector.get_connection_params("/").host == "from.variable"
        assert connector.mq_credentials.username == "u"
        assert connector_class.init_config()["server"] == "from.variable"

    def test_a_configuration_given_goes_before_the_file(
        self,
        home: Path,
        quiet_environment: pytest.MonkeyPatch,
        connector_class: Any,
        settings: dict[str, Any],
    ) -> None:
        path = self.write(home / "some.json", make_config("from.variable", 5672, "u", "p"))
        quiet_environment.setenv("NEON_MQ_CONFIG_PATH", str(path))
        assert connector_class(settings, SERVICE).config["server"] == "mq.example.org"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestConfigurationClass:
    """Deprecated, still used: a holder of one dict."""

    def test_its_data_feeds_a_connector(
        self, connector_class: Any, settings: dict[str, Any]
    ) -> None:
        data = Configuration().from_dict({"MQ": settings}).config_data
        assert connector_class(data, SERVICE).mq_credentials.username == "ann"
