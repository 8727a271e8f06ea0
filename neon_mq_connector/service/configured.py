"""A service and its configuration: where the broker is, who it is there, its virtual host."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pika

from neon_mq_connector.config.sources import SECTION, source_of
from neon_mq_connector.config.values import env_flag
from neon_mq_connector.consumers.consumer_thread import default_error_handler
from neon_mq_connector.envelope import new_id
from neon_mq_connector.topology import check_name

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings


class ConfiguredService:
    """The configuration of one service. See `MQConnector`, which services derive from."""

    #: The key, in the service's entry under ``users``, of its configurable properties.
    property_key: str = "properties"

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        # the last of the chain: services mix this with Thread and call both in any order
        self.service_name = service_name
        self._mq_use(config)
        self._service_id: str | None = None
        self._vhost = ""
        self.sync_period: float = 10
        self.observe_period: float = 20
        self.vhost_prefix = ""
        self.default_testing_prefix = "test"
        key = service_name.upper().replace("-", "_").replace(" ", "_")
        self.testing_envs: Sequence[str] = (f"{key}_TESTING", "MQ_TESTING")
        self.testing_prefix_envs: Sequence[str] = (
            f"{key}_TESTING_PREFIX",
            "MQ_TESTING_PREFIX",
        )

    def __repr__(self) -> str:
        """Show class, service and virtual host; never the configuration."""
        return f"<{type(self).__name__} {self.service_name!r} on {self.vhost!r}>"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, without the outer ``MQ``. Setting it affects what is opened later."""
        return self._config

    @config.setter
    def config(self, config: Mapping[str, Any]) -> None:
        self._mq_use(config)

    def _mq_use(self, config: Mapping[str, Any] | None) -> None:
        self._mq_source = source_of(config)
        self._config = dict(self._mq_source.section)
        self._mq_settings: MQSettings | None = None

    @property
    def settings(self) -> MQSettings:
        """The validated configuration.

        Raises:
            ConfigurationError: a value cannot be used; the message names key and source.
        """
        if self._mq_settings is None:
            from neon_mq_connector.config import MQSettings

            section, source = self._config, self._mq_source
            found = {SECTION: section} if source.prefix else section
            self._mq_settings = MQSettings.from_config(found, source=source.name)
        return self._mq_settings

    @staticmethod
    def init_config(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the configuration that the constructor would find, without an outer ``MQ``."""
        return dict(source_of(config).section)

    @property
    def service_config(self) -> dict[str, Any]:
        """The service's entry under ``users``; empty when it has none."""
        users = self._config.get("users")
        entry = users.get(self.service_name) if isinstance(users, Mapping) else None
        return dict(entry) if isinstance(entry, Mapping) else {}

    @property
    def service_configurable_properties(self) -> dict[str, Any]:
        """Attributes that the configuration may set, with their defaults; services override it."""
        return {}

    def _mq_apply_properties(self) -> None:
        """Set the attributes that the service's entry configures."""
        configurable = {
            "sync_period": self.sync_period,
            "observe_period": self.observe_period,
            "vhost_prefix": self.vhost_prefix,
            "default_testing_prefix": self.default_testing_prefix,
            "testing_envs": self.testing_envs,
            "testing_prefix_envs": self.testing_prefix_envs,
            **self.service_configurable_properties,
        }
        configured = self.service_config.get(self.property_key)
        values = configured if isinstance(configured, Mapping) else {}
        for name, default in configurable.items():
            setattr(self, name, values.get(name, default))

    @property
    def service_id(self) -> str:
        """An id of this instance, made when first asked for."""
        if self._service_id is None:
            self._service_id = self.create_unique_id()
        return self._service_id

    @property
    def mq_credentials(self) -> pika.PlainCredentials:
        """How the service logs in.

        Raises:
            ConfigurationError: the service has no user and password in the configuration.
        """
        credentials = self.settings.credentials_for(self.service_name)
        return pika.PlainCredentials(credentials.username, credentials.password)

    @property
    def testing_mode(self) -> bool:
        """Whether one of `testing_envs` is set to true in the environment."""
        return any(env_flag(name) for name in self.testing_envs)

    @property
    def testing_prefix(self) -> str:
        """The prefix of virtual hosts in testing mode."""
        for name in self.testing_prefix_envs:
            if os.environ.get(name):
                return os.environ[name]
        return self.default_testing_prefix

    @property
    def vhost(self) -> str:
        """The service's virtual host, with its prefix, and in testing mode that one before it.

        Where the service sets none, that of ``NEON_MQ_URL``; as it is if there is no prefix. A
        value that has the prefixes does not get them again.
        """
        vhost, prefix = self._vhost or self._mq_source.vhost, self.vhost_prefix
        testing = self.testing_prefix if self.testing_mode else ""
        if vhost and vhost == self._mq_source.vhost and not prefix and not testing:
            return vhost
        return with_prefixes(vhost, prefix, testing)

    @vhost.setter
    def vhost(self, vhost: str) -> None:
        self._vhost = vhost or ""

    def get_connection_params(self, vhost: str, **kwargs: Any) -> pika.ConnectionParameters:
        """Return pika's parameters for a virtual host; of several servers for the first.

        Args:
            vhost: the virtual host, as it is.
            kwargs: passed on to `pika.ConnectionParameters`; they go before the configuration.

        Raises:
            ConfigurationError: there are no credentials for the service, or a value is wrong.
            TypeError: pika knows no such keyword.
            ValueError: the name of the virtual host cannot be used.
        """
        check_name("virtual host", vhost)
        settings = self.settings
        endpoint = settings.endpoints[0]
        options: dict[str, Any] = {
            "host": endpoint.host,
            "port": endpoint.port,
            "heartbeat": settings.heartbeat,
            "blocked_connection_timeout": settings.blocked_connection_timeout,
            "socket_timeout": settings.connect_timeout,
            "stack_timeout": settings.connect_timeout,
        }
        if settings.tls.enabled:
            from neon_mq_connector.config import create_ssl_context

            options["ssl_options"] = pika.SSLOptions(
                create_ssl_context(settings.tls), settings.tls.server_hostname or endpoint.host
            )
        options.update(kwargs)
        if "credentials" not in options:
            options["credentials"] = self.mq_credentials
        return pika.ConnectionParameters(virtual_host=vhost, **options)

    @staticmethod
    def create_unique_id() -> str:
        """Return an id of 32 hexadecimal digits that nothing else has."""
        return new_id()

    @staticmethod
    def default_error_handler(thread: Any, exception: BaseException) -> None:
        """Log an exception of a consumer's thread."""
        default_error_handler(thread, exception)


def server_parameters(
    service: ConfiguredService, vhost: str, **kwargs: Any
) -> list[pika.ConnectionParameters]:
    """Return the parameters of each server of the cluster, for a virtual host.

    Arguments and errors are those of `ConfiguredService.get_connection_params`.
    """
    first = service.get_connection_params(vhost, **kwargs)
    every = [first]
    if "host" in kwargs or "port" in kwargs:
        return every
    for endpoint in service.settings.endpoints[1:]:
        other = copy.copy(first)
        other.host, other.port = endpoint.host, endpoint.port
        if first.ssl_options is not None and not service.settings.tls.server_hostname:
            other.ssl_options = pika.SSLOptions(first.ssl_options.context, endpoint.host)
        every.append(other)
    return every


@functools.lru_cache(maxsize=256)
def with_prefixes(vhost: str, prefix: str, testing: str) -> str:
    """Put the prefixes of a service and of testing mode before the name of a virtual host.

    Returns:
        ``/<testing>_<prefix>_<name>``; a prefix that is there already is not added again, a
        trailing ``_`` is dropped, a leading ``/`` added.
    """
    name = vhost.lstrip("/")
    if testing and not _has_prefix(name, prefix):  # the outer one may be there alone
        name = f"{name}_".removeprefix(f"{testing}_").removesuffix("_")
    for each in (prefix, testing):
        if not _has_prefix(name, each):
            name = f"{each}_{name}"
    return f"/{name.removesuffix('_')}"


def _has_prefix(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}_")
