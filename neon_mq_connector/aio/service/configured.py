"""A service and its configuration, on asyncio: what `ConfiguredService` is for threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neon_mq_connector.aio.service.threaded import ThreadedConnector
from neon_mq_connector.service.health import Health

if TYPE_CHECKING:
    import pika

    from neon_mq_connector.config.settings import MQSettings


class AsyncConfiguredService:
    """Know the configuration of one service. See `AsyncMQConnector`, which services derive from.

    What is to be known, and what is done with the broker, is a threaded connector's, to which this
    and the parts built on it delegate.
    """

    #: The key, in the service's entry under ``users``, of its configurable properties.
    property_key: str = "properties"

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        self._threaded = ThreadedConnector(config, service_name, self.property_key)

    def __repr__(self) -> str:
        """Show class, service and virtual host; never the configuration."""
        return f"<{type(self).__name__} {self.service_name!r} on {self.vhost!r}>"

    @property
    def service_name(self) -> str:
        """The service's entry under ``users``."""
        return self._threaded.service_name

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, without the outer ``MQ``. Setting it affects what is opened later."""
        return self._threaded.config

    @config.setter
    def config(self, config: Mapping[str, Any]) -> None:
        self._threaded.config = config

    @property
    def settings(self) -> MQSettings:
        """The validated configuration.

        Raises:
            ConfigurationError: a value cannot be used; the message names key and source.
        """
        return self._threaded.settings

    @property
    def service_config(self) -> dict[str, Any]:
        """The service's entry under ``users``; empty when it has none."""
        return self._threaded.service_config

    @property
    def service_configurable_properties(self) -> dict[str, Any]:
        """Attributes that the configuration may set, with their defaults; services override it."""
        return {}

    @property
    def service_id(self) -> str:
        """An id of this instance, made when first asked for."""
        return self._threaded.service_id

    @property
    def mq_credentials(self) -> pika.PlainCredentials:
        """How the service logs in.

        Raises:
            ConfigurationError: the service has no user and password in the configuration.
        """
        return self._threaded.mq_credentials

    @property
    def vhost(self) -> str:
        """The service's virtual host, with its prefix, and in testing mode that one before it."""
        return self._threaded.vhost

    @vhost.setter
    def vhost(self, vhost: str) -> None:
        self._threaded.vhost = vhost

    @property
    def vhost_prefix(self) -> str:
        """The prefix of the virtual host."""
        return self._threaded.vhost_prefix

    @vhost_prefix.setter
    def vhost_prefix(self, prefix: str) -> None:
        self._threaded.vhost_prefix = prefix

    @property
    def testing_mode(self) -> bool:
        """Whether the environment says that the service is tested."""
        return self._threaded.testing_mode

    @property
    def testing_prefix(self) -> str:
        """The prefix of virtual hosts in testing mode."""
        return self._threaded.testing_prefix

    @property
    def sync_period(self) -> float:
        """How often the service publishes its presence, in seconds (10)."""
        return self._threaded.sync_period

    @sync_period.setter
    def sync_period(self, seconds: float) -> None:
        self._threaded.sync_period = seconds

    @property
    def observe_period(self) -> float:
        """How often consumers that have ended are looked for, in seconds (20)."""
        return self._threaded.observe_period

    @observe_period.setter
    def observe_period(self, seconds: float) -> None:
        self._threaded.observe_period = seconds

    @property
    def consumers(self) -> dict[str, Any]:
        """What was registered, by name; each is a thread that attaches and recovers."""
        return self._threaded.consumers

    @property
    def started(self) -> bool:
        """Whether it was run and not stopped."""
        return self._threaded.started

    @staticmethod
    def create_unique_id() -> str:
        """Make an id that nothing else has."""
        return ThreadedConnector.create_unique_id()

    def check_health(self) -> bool:
        """Say whether the connector runs and each started consumer consumes; never waits.

        Returns:
            False before `run`, while a consumer is recovering, has failed or gets nothing, and
            after `stop`. `health` says more.
        """
        return self._threaded.check_health()

    def health(self, *, stacks: bool = False) -> Health:
        """Say how the connector, its consumers and its connections are; never waits.

        Args:
            stacks: whether to say where each consumer's oldest callback is.
        """
        return self._threaded.health(stacks=stacks)

    def _apply_configured_properties(self) -> None:
        configured = self.service_config.get(self.property_key)
        values = configured if isinstance(configured, Mapping) else {}
        for name, default in self.service_configurable_properties.items():
            setattr(self, name, values.get(name, default))
