"""A virtual host for one test, to which all connectors of the process are redirected."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pika

from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.shared_clients import close_shared_clients
from neon_mq_connector.testing.embedded import EmbeddedBroker
from neon_mq_connector.testing.polling import poll
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.testing.running import OwnBroker

if TYPE_CHECKING:
    import pytest


class OwnVhost:
    """A virtual host of one test with a user of its own, and what must not be left of the test.

    Args:
        broker: the broker that it is on.

    Attributes:
        broker: the same.
        name: of the virtual host.
        user: the name of the user.
        password: of the user.
        closing: closes what has to outlive the services of the test.
    """

    def __init__(self, broker: OwnBroker) -> None:
        self.broker = broker
        self.name = f"/test-{secrets.token_hex(4)}"
        self.user = self.name.lstrip("/")
        self.password = secrets.token_urlsafe(8)
        self.closing = ExitStack()
        self.closing.callback(close_shared_clients)
        self._ports = {broker.port}
        self._proxies: list[FaultProxy] = []
        self._threads = frozenset(threading.enumerate())

    def create(self) -> None:
        """Make the virtual host, with a trace of what is published, and the user.

        The broker is started where another test has left it down.
        """
        self.broker.start()
        self.end_faults()
        management = self.broker.management
        management.create_vhost(self.name, tracing=True)
        management.create_user(self.user, self.password)
        management.permit(self.user, self.name)

    def remove(self) -> None:
        """Delete both, which ends connections that are left."""
        self.broker.delete_vhost(self.name)
        self.broker.delete_user(self.user)

    def end_faults(self) -> None:
        """End the faults of proxies and broker, before services stop and other tests begin."""
        for proxy in self._proxies:
            proxy.restore()
        if self.broker.running and isinstance(self.broker, EmbeddedBroker):
            self.broker.end_faults()

    def parameters(self) -> pika.ConnectionParameters:
        """Return how plain pika connects."""
        credentials = pika.PlainCredentials(self.user, self.password)
        return pika.ConnectionParameters(self.broker.host, self.broker.port, self.name, credentials)

    def add_proxy(self, proxy: FaultProxy) -> None:
        """Redirect connectors that connect through a proxy, too."""
        self._ports.add(proxy.port)
        self._proxies.append(proxy)

    def redirect_connectors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Redirect all connectors whose configuration names the broker to this virtual host.

        A service need not be changed to be tested: the virtual hosts that it names are all this
        one, and where it has no entry under ``users`` it is the user of this one.
        """
        own = self
        make_parameters = ConfiguredService.get_connection_params
        configured: Any = ConfiguredService.mq_credentials  # the property itself

        def get_connection_params(
            connector: ConfiguredService, vhost: str, **kwargs: Any
        ) -> pika.ConnectionParameters:
            parameters = make_parameters(connector, vhost, **kwargs)
            if own._is_here(parameters.host, parameters.port):
                parameters.virtual_host = own.name
            return parameters

        def mq_credentials(connector: ConfiguredService) -> pika.PlainCredentials:
            settings = connector.settings
            first = settings.endpoints[0]
            if connector.service_name in settings.users or not own._is_here(first.host, first.port):
                credentials: pika.PlainCredentials = configured.fget(connector)
                return credentials
            return pika.PlainCredentials(own.user, own.password)

        monkeypatch.setattr(ConfiguredService, "get_connection_params", get_connection_params)
        monkeypatch.setattr(ConfiguredService, "mq_credentials", property(mq_credentials))

    def unsettled(self) -> list[str]:
        """Wait for deliveries to be settled; describe the queues that still have some.

        What is being handled gets time to be settled.
        """

        def look() -> list[str]:
            rows = self.broker.list_queues(self.name)
            counts = {row["name"]: row.get("messages_unacknowledged", 0) for row in rows}
            return [f"{count} in queue {name!r}" for name, count in counts.items() if count]

        return poll(look, lambda found: not found)

    def leftovers(self) -> list[str]:
        """Wait for threads and connections to end; describe those that are left."""
        return poll(lambda: [*self._left_threads(), *self._left_connections()], lambda all: not all)

    def _is_here(self, host: str, port: int) -> bool:
        return port in self._ports and host in (self.broker.host, "localhost")

    def _left_threads(self) -> list[str]:
        return [
            f"thread {each.name!r}"
            for each in threading.enumerate()
            if each not in self._threads and (not each.daemon or each.name.startswith("mq-"))
        ]

    def _left_connections(self) -> list[str]:
        return [
            f"connection {row.get('user_provided_name') or row['name']!r}"
            for row in self.broker.list_connections(self.name)
        ]
