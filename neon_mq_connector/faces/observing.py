"""What a connector has to show and serve its state."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.health.status import status_of
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.core import Core
from neon_mq_connector.service.health import Health

if TYPE_CHECKING:
    from neon_mq_connector.health.server import HealthServer

LOG = logging.getLogger("neon_mq_connector.health")


class ShowsHealth(ConfiguredService):
    """Tell how the service is, and serve that over HTTP.

    Attributes:
        consumers: the thread of each consumer, by its name.
    """

    consumers: dict[str, Any]
    _mq_core: Core

    @property
    def started(self) -> bool:
        """Whether it was run and not stopped."""
        return self._mq_core.started

    def check_health(self) -> bool:
        """Return whether the connector runs and each started consumer consumes.

        Returns:
            False before `run`, while one of them is recovering, has failed or gets nothing, and
            after `stop`. `health` says more.
        """
        return self.health().healthy

    def health(self, *, stacks: bool = False) -> Health:
        """Return how the connector, its consumers and its connections are.

        Args:
            stacks: whether to add the stack of each consumer's oldest callback.

        Returns:
            A snapshot: whether all is well, what is not and why, and counts per consumer.
        """
        return self._mq_core.health(stacks=stacks)

    def serve_health(self, host: str = "127.0.0.1", port: int = 0) -> HealthServer:
        """Serve the state of the service over HTTP until the server is closed.

        ``/live`` and ``/ready`` are for probes, ``/metrics`` is for Prometheus, ``/inflight`` tells
        which callbacks run and where they are, and ``/`` is a page that shows all of it. The
        setting ``health_port`` has `run` do the same until `stop`.

        Args:
            host: the address to listen on.
            port: the port; 0 for a free one.

        Returns:
            The server, with ``port``, ``url`` and ``close()``.

        Raises:
            OSError: the address cannot be listened on.
        """
        from neon_mq_connector import metrics
        from neon_mq_connector.health.server import HealthServer

        metrics.enable()
        return HealthServer(lambda: (status_of(self),), host, port)

    def _mq_serve_configured(self) -> None:
        """Serve where the settings say.

        Raises:
            ConfigurationError: that cannot be listened on.
        """
        host, port = self.settings.health_host, self.settings.health_port
        if port is None or self._mq_core.endpoint is not None:
            return
        try:
            server = self._mq_core.endpoint = self.serve_health(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"health_port: {host}:{port} cannot be listened on: {error.strerror or error}"
            ) from error
        LOG.info("service %r: its state is at %s", self.service_name, server.url)
