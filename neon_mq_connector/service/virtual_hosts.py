"""The connections of a service to each virtual host that it uses, and its request clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from neon_mq_connector import tracing
from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connections import ConnectionPolicy, Connections
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.shared_clients import shared_client


class VirtualHosts:
    """Open, share and give up the connections of one service.

    `_lock` owns `_open`, and `_stopping`: how many stops of the last run go on. A stop leaves
    connections open until callbacks have ended, which may send; a run that begins before that has
    connections of its own, which only its own stops close. `_clients` is only read and set item by
    item, so that any thread may.
    """

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._open: dict[str, Connections] = {}
        self._stopping = 0
        self._clients: dict[tuple[str, str], tuple[object, RequestClient]] = {}

    def connections(self, vhost: str) -> Connections:
        """Return the connections to a virtual host, which all parts of the service share."""
        with self._lock:
            connections = self._open.get(vhost)
            if connections is None or connections.is_closed:
                connections = self._open[vhost] = self.new_connections(vhost)
            return connections

    def new_connections(self, vhost: str, **kwargs: Any) -> Connections:
        """Make connections that the caller owns, with further parameters of pika's."""
        settings = self._service.settings
        tracing.begin(wanted=settings.tracing)
        return Connections(
            server_parameters(self._service, vhost, **kwargs),
            owner=self._service.service_name,
            policy=ConnectionPolicy(
                operation_timeout=settings.operation_timeout,
                backoff=OutageBackoff(
                    floor=settings.reconnect_delay_min, ceiling=settings.reconnect_delay_max
                ),
            ),
        )

    def client(self, vhost: str) -> RequestClient:
        """Return the request client of a virtual host, which the whole process shares."""
        service, settings = self._service, self._service.settings
        name = (service.service_name, vhost)
        made_of, client = self._clients.get(name, (None, None))
        # other settings, other servers or another user: another client
        if client is None or client.is_closed or made_of is not settings:
            client = shared_client(server_parameters(service, vhost), owner=service.service_name)
            self._clients[name] = (settings, client)
        return client

    def all_connections(self) -> list[Connections]:
        """List the connections that are shared."""
        with self._lock:
            return list(self._open.values())

    def begin_run(self) -> bool:
        """Replace what a stop is about to close; return whether a stop goes on."""
        with self._lock:
            overtakes = self._stopping > 0
            if overtakes:
                self._stopping, self._open = 0, {}
            return overtakes

    def begin_stop(self) -> Callable[[], Iterable[Connections]]:
        """Begin a stop, and return what ends it; until then connections are used as before."""
        with self._lock:
            self._stopping += 1
            opened, before = self._open, tuple(self._open.values())

        def end() -> Iterable[Connections]:
            """Forget the connections of the run; return them, to be closed."""
            with self._lock:
                if opened is self._open:  # or else it was run again meanwhile
                    self._stopping -= 1
                every = dict.fromkeys((*before, *opened.values()))
                opened.clear()
                return every

        return end

    def after_fork_in_child(self) -> None:
        """Replace the lock; what the connections have open they drop themselves."""
        self._lock = threading.RLock()
        self._stopping = 0
        self._clients = {}
