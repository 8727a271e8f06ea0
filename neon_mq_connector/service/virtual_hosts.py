"""The connections of a service to each virtual host that it uses."""

from __future__ import annotations

import threading

from neon_mq_connector import tracing
from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.connections import ConnectionPolicy, Connections
from neon_mq_connector.service.configured import ConfiguredService, server_parameters


class VirtualHosts:
    """Open, share and give up the connections of one service.

    `_lock` owns `_open` and `_stopping`. A stop leaves connections open until callbacks have ended,
    which may send; a run that begins before that has connections of its own.

    Args:
        service: has the configuration.
    """

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._open: dict[str, Connections] = {}
        self._stopping = False

    def connections(self, vhost: str) -> Connections:
        """Return the connections to a virtual host, which all parts of the service share."""
        with self._lock:
            connections = self._open.get(vhost)
            if connections is None or connections.is_closed:
                connections = self._open[vhost] = self.new_connections(vhost)
            return connections

    def new_connections(self, vhost: str) -> Connections:
        """Make connections that the caller owns; they open when they are used."""
        settings = self._service.settings
        tracing.begin(wanted=settings.tracing)
        return Connections(
            server_parameters(self._service, vhost),
            owner=self._service.service_name,
            policy=ConnectionPolicy(
                operation_timeout=settings.operation_timeout,
                backoff=OutageBackoff(
                    floor=settings.reconnect_delay_min, ceiling=settings.reconnect_delay_max
                ),
            ),
        )

    def all_connections(self) -> list[Connections]:
        """List the connections that are shared."""
        with self._lock:
            return list(self._open.values())

    def begin_run(self) -> None:
        """Leave to a stop that goes on what it is about to close."""
        with self._lock:
            if self._stopping:
                self._stopping = False
                self._open = {}

    def begin_stop(self) -> list[Connections]:
        """Return the connections that are to be closed; until then they are used as before."""
        with self._lock:
            self._stopping = True
            return list(self._open.values())

    def end_stop(self) -> list[Connections]:
        """Return what was opened after the stop began and is to be closed; use none any more."""
        with self._lock:
            if not self._stopping:  # it was run again meanwhile
                return []
            self._stopping = False
            connections, self._open = list(self._open.values()), {}
            return connections

    def after_fork_in_child(self) -> None:
        """Replace the lock; what the connections have open they drop themselves."""
        self._lock = threading.RLock()
        self._stopping = False
