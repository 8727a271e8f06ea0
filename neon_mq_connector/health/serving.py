"""The part of both connectors that serves their status over HTTP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.health.status import Observed, status_of

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings
    from neon_mq_connector.health.server import HealthServer

LOG = logging.getLogger("neon_mq_connector.health")


class HasSettings(Observed, Protocol):
    """A connector with the settings of the endpoint."""

    _mq_health_server: HealthServer | None

    @property
    def settings(self) -> MQSettings: ...

    def serve_health(self, host: str = ..., port: int = ...) -> HealthServer: ...


class ServesHealth:
    """Serve the state over HTTP.

    `_mq_health_server`, which the setting ``health_port`` asks for, is owned by the caller of `run`
    and `stop`.
    """

    _mq_health_server: HealthServer | None = None

    def serve_health(self: Observed, host: str = "127.0.0.1", port: int = 0) -> HealthServer:
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

    def _serve_configured_health(self: HasSettings) -> None:
        """Serve at the address of the settings, if they have one.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        host, port = self.settings.health_host, self.settings.health_port
        if port is None or self._mq_health_server is not None:
            return
        try:
            self._mq_health_server = self.serve_health(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"health_port: {host}:{port} cannot be listened on: {error.strerror or error}"
            ) from error
        LOG.info("service %r: its state is at %s", self.service_name, self._mq_health_server.url)

    def _end_configured_health(self) -> None:
        server, self._mq_health_server = self._mq_health_server, None
        if server is not None:
            server.close()
