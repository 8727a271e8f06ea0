"""The settings: every key that the library reads, with its type, unit, default and meaning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    SecretStr,
    ValidationError,
    model_validator,
)

from neon_mq_connector.config.addresses import parse_address, parse_host
from neon_mq_connector.config.problems import describe, unknown_keys
from neon_mq_connector.config.section import Section, Whole, setting
from neon_mq_connector.config.sources import (
    CLIENT_ENTRY,
    DEFAULT_ENTRY,
    NO_SOURCE,
    PASSED_DICT,
    URL_FORM,
    URL_VARIABLE,
    Source,
    place_for_settings,
    source_of,
)
from neon_mq_connector.config.tls import TLSSettings
from neon_mq_connector.config.tuning import Tuning
from neon_mq_connector.config.values import Credentials, Endpoint, configuration_error

log = logging.getLogger("neon_mq_connector.config")

AMQP_PORT = 5672
AMQPS_PORT = 5671


def _entries(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {str(name): {} if entry is None else entry for name, entry in value.items()}


class UserSettings(Section):
    """How one service logs in, and what else it keeps with that."""

    username: str | None = setting(
        None,
        expects="a text (user and username are the same key)",
        description="The user's name on the broker. `user` is the same and goes before it.",
    )
    password: SecretStr | None = setting(
        None,
        expects="a text",
        description="The user's password. A number has to stand in quotes.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_it_username(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        entry = {key: value for key, value in data.items() if key != "user"}
        return entry if data.get("user") is None else {**entry, "username": data["user"]}


class MQSettings(Tuning):
    """The validated settings of a connector. Make it with `from_config` or `load_settings`."""

    _source: str = PASSED_DICT
    _prefix: str = ""

    server: Annotated[str, AfterValidator(parse_host)] = setting(
        "localhost",
        expects="a host name or an address",
        group="Broker",
        description="The host that the broker runs on.",
    )
    port: Whole = setting(
        AMQP_PORT,
        expects="a port (1-65535)",
        description="The port of the broker. With TLS the default is 5671.",
        ge=1,
        le=65535,
    )
    servers: tuple[Annotated[Endpoint, BeforeValidator(parse_address)], ...] = setting(
        (),
        expects='a list of servers, such as ["mq1", "mq2:5673"]',
        description='The nodes of a cluster: `"host"`, `"host:port"`, `"[IPv6]:port"` or '
        '`{"server": "host", "port": 5672}`. Where no port is given, that of `port`. A `server` '
        "that is given as well is one more of them; its default, localhost, is not.",
    )
    management_url: str | None = setting(
        None,
        expects="an address such as http://mq1:15672",
        description="Where RabbitMQ's management interface answers, for `neon-mq status`, `top` "
        "and `dead list`. By default port 15672 of the broker's host, with TLS 15671.",
    )
    users: Annotated[dict[str, UserSettings], BeforeValidator(_entries)] = setting(
        {},
        expects="an object with one entry per service, each with user and password",
        description="By name of the service: how it logs in, and properties of its own. The entry "
        "`default` is for all that have no user and password of their own, `mq_handler` for "
        "scripts and the command.",
    )
    tls: TLSSettings = setting(
        TLSSettings(enabled=False),
        expects="an object with the keys of TLS, or true or false",
        description="Encryption, see below. `true` is short for a section without further keys; "
        "`ssl` is the same key.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_it_tls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {key: value for key, value in data.items() if key != "ssl"}
        section = data.get("ssl")
        if section is not None:
            if given.get("tls") is not None:
                raise ValueError("tls and ssl are the same key; keep one of them")
            given["tls"] = section
        if isinstance(given.get("tls"), bool):
            given["tls"] = {"enabled": given["tls"]}
        return given

    @model_validator(mode="after")
    def _port_of_amqps(self) -> MQSettings:
        if self.tls.enabled and "port" not in self.model_fields_set:
            # past the frozen attribute: the object is still being made
            self.__dict__["port"] = AMQPS_PORT
        return self

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | None, *, source: str = PASSED_DICT
    ) -> MQSettings:
        """Validate a configuration.

        Args:
            config: the settings, with or without the outer ``MQ``; None for the defaults. It is
                neither changed nor kept, but for the values of unknown keys.
            source: what to call it in messages: the path of its file, or words.

        Returns:
            The settings.

        Raises:
            ConfigurationError: a value cannot be used. The message is one line; it names the key,
                the source and what would make it work, and quotes no secret.

        Examples:
            >>> MQSettings.from_config({"MQ": {"server": "mq.example"}}).endpoints
            (Endpoint(host='mq.example', port=5672),)
        """
        found = Source(source, {} if config is None else config)
        try:
            settings = cls.model_validate(found.section)
        except ValidationError as error:
            message = describe(error, cls, found)
        else:
            settings._source, settings._prefix = source, found.prefix
            for key, meant in unknown_keys(settings):
                log.warning("%s%s in %s is no setting: %s", found.prefix, key, source, meant)
            return settings
        # Raised here and not in the except clause, so that the error of pydantic, which holds the
        # values, does not hang on as __context__.
        raise configuration_error(message)

    @property
    def source(self) -> str:
        """Where the settings came from: the path of a file, or words."""
        return self._source

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers to connect to, in the order they are written in, each of them once."""
        alone = not self.servers or "server" in self.model_fields_set
        found: dict[tuple[str, int], Endpoint] = {}
        for each in (*([Endpoint(self.server, self.port)] if alone else []), *self.servers):
            port = each.port or self.port
            found.setdefault((each.host.lower(), port), Endpoint(each.host, port))
        return tuple(found.values())

    def credentials_for(self, service_name: str) -> Credentials:
        """Look up how a service logs in.

        Args:
            service_name: the key of its entry in ``users``; without one, or without user and
                password in it, the entry ``default`` counts.

        Returns:
            Name and password; the password is not in the ``repr``.

        Raises:
            ConfigurationError: there is neither, or one without name or password. The message says
                which services have one and what to add where.
        """
        for name in (service_name, DEFAULT_ENTRY):
            user = self.users.get(name)
            if user is None or (user.username is None and user.password is None):
                continue  # or it has only properties
            if user.username is None or user.password is None:
                missing = "user" if user.username is None else "password"
                raise configuration_error(
                    f"service {service_name!r} has no {missing}; set "
                    f"{self._prefix}users.{name}.{missing} in {self._source}"
                )
            return Credentials(user.username, user.password.get_secret_value())
        raise configuration_error(self._without_credentials(service_name))

    def _without_credentials(self, service_name: str) -> str:
        """Return the message for a service, or a script, that has no credentials."""
        kind = "client" if service_name == CLIENT_ENTRY else "service"
        names = ", ".join(sorted(self.users)) or "no service at all"
        entries = f"{self._prefix}users.{service_name} or {self._prefix}users.{DEFAULT_ENTRY}"
        remedy = f"add {entries} with user and password to {place_for_settings(self._source)}"
        if self._source == NO_SOURCE:
            remedy = f"set {URL_VARIABLE}={URL_FORM}, or {remedy}"
        elif self._source != PASSED_DICT:
            remedy += f", or set {URL_VARIABLE}={URL_FORM} instead"
        return f"{kind} {service_name!r} has no credentials: users has {names}; {remedy}"


def load_settings(config: Mapping[str, Any] | None = None) -> MQSettings:
    """Find the configuration and validate it.

    Args:
        config: settings that go before every file; None or an empty dict to look for a source, in
            the order described in `neon_mq_connector.config.sources`.

    Returns:
        The settings; the defaults when there is no configuration at all.

    Raises:
        ConfigurationError: a source cannot be read or a value in it cannot be used; the message
            names file and key and what would make it work.
    """
    source = source_of(config)
    return MQSettings.from_config(source.config, source=source.name)
