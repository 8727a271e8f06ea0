"""A virtual host for one test, to which all connectors of the process are led."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pika

from neon_mq_connector.connector import MQConnector
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

    @property
    def is_up(self) -> bool:
        """Whether the broker runs."""
        return self.broker.running

    def end_faults(self) -> None:
        """End the faults of proxies and broker: neither a stop nor another test is to meet them."""
        for proxy in self._proxies:
            proxy.restore()
        if self.is_up and isinstance(self.broker, EmbeddedBroker):
            self.broker.end_faults()

    def parameters(self) -> pika.URLParameters:
        """Return how plain pika connects."""
        return pika.URLParameters(
            self.broker.url(self.name, username=self.user, password=self.password)
        )

    def lead_through(self, proxy: FaultProxy) -> None:
        """Take the port of a proxy for one of the broker."""
        self._ports.add(proxy.port)
        self._proxies.append(proxy)

    def lead_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lead connectors here whose configuration names the broker, whatever their virtual host.

        A service need not be changed to be tested: the virtual hosts that it names are all this
        one, and where it has no entry under ``users`` it is the user of this one.
        """
        own = self
        make_parameters = MQConnector.get_connection_params
        configured: Any = MQConnector.mq_credentials  # the property itself

        def get_connection_params(
            connector: MQConnector, vhost: str, **kwargs: Any
        ) -> pika.ConnectionParameters:
            parameters = make_parameters(connector, vhost, **kwargs)
            if own._is_here(parameters.host, parameters.port):
                parameters.virtual_host = own.name
            return parameters

        def mq_credentials(connector: MQConnector) -> pika.PlainCredentials:
            settings = connector.settings
            first = settings.endpoints[0]
            if connector.service_name in settings.users or not own._is_here(first.host, first.port):
                credentials: pika.PlainCredentials = configured.fget(connector)
                return credentials
            return pika.PlainCredentials(own.user, own.password)

        monkeypatch.setattr(MQConnector, "get_connection_params", get_connection_params)
        monkeypatch.setattr(MQConnector, "mq_credentials", property(mq_credentials))

    def unsettled(self) -> list[str]:
        """Describe the queues with messages that a consumer has got and not settled, after a while.

        What is being handled gets time to be settled.
        """

        def look() -> list[str]:
            rows = self.broker.list_queues(self.name)
            counts = {row["name"]: row.get("messages_unacknowledged", 0) for row in rows}
            return [f"{count} in queue {name!r}" for name, count in counts.items() if count]

        return poll(look, lambda found: not found)

    def leftovers(self) -> list[str]:
        """Describe the threads and connections that outlive the test, after a while."""
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
