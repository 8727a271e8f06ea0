"""The embedded broker's answers to calls that RabbitMQ's management interface takes."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from neon_mq_connector.operations.management import ManagementError
from neon_mq_connector.testing.embedded.connection import Connection
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.rows import (
    binding_rows,
    connection_row,
    consumer_rows,
    exchange_row,
    queue_row,
)
from neon_mq_connector.testing.embedded.server import Server
from neon_mq_connector.testing.embedded.users import Rights
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost
from neon_mq_connector.testing.management import ManagementClient


class EmbeddedManagement(ManagementClient):
    """Ask and steer an embedded broker; its calls go to the thread of the broker, not over HTTP.

    Args:
        node: the broker.
        username: the administrator.
        server: returns its server, or raises while it does not run.
    """

    def __init__(self, node: Node, username: str, server: Callable[[], Server]) -> None:
        super().__init__("embedded", username, "")
        self._node = node
        self._server = server

    def call(self, method: str, *path: str, query: str = "", body: object = None) -> Any:
        """Make one call; see `ManagementClient.call`.

        Raises:
            ManagementError: there is no such thing, or the embedded broker has no such call.
        """
        details = body if isinstance(body, dict) else {}
        return self._server().call(lambda: self._perform((method, *path), details))

    def _perform(self, request: tuple[str, ...], details: dict[str, Any]) -> Any:
        node = self._node
        match request:
            case "PUT", "vhosts", name:
                if name not in node.vhosts:
                    node.add_vhost(name)
                    node.permit(self.username, name, Rights())  # its creator may use it
                node.vhosts[name].tracing = details.get("tracing", node.vhosts[name].tracing)
            case "DELETE", "vhosts", name:
                self._close(name, f"vhost '{name}' is deleted")
                node.remove_vhost(name)
            case "PUT", "users", name:
                node.add_user(name, details["password"], details.get("tags", ""))
            case "DELETE", "users", name:
                node.users.pop(name, None)
            case "PUT", "permissions", vhost, user:
                if user not in node.users:
                    raise _missing(f"user {user!r}")
                node.permit(user, self._vhost(vhost).name, Rights(**details))
            case "DELETE", "connections", name:
                self._close(None, "Closed via management plugin", name)
            case "GET", "queues", vhost:
                return [queue_row(each) for each in self._vhost(vhost).queues.values()]
            case "GET", "queues", vhost, name:
                if name not in self._vhost(vhost).queues:
                    raise _missing(f"queue {name!r} in {vhost!r}")
                return queue_row(self._vhost(vhost).queues[name])
            case "DELETE", "queues", vhost, name:
                self._vhost(vhost).remove_queue(name)
            case "DELETE", "exchanges", vhost, name:
                self._vhost(vhost).delete_exchange(name)
            case "GET", "exchanges", vhost:
                return [exchange_row(each, vhost) for each in self._vhost(vhost).exchanges.values()]
            case "GET", "bindings", vhost:
                return binding_rows(self._vhost(vhost))
            case "GET", "consumers", vhost:
                return [row for each in self._connections(vhost) for row in consumer_rows(each)]
            case ("GET", "connections") | ("GET", "vhosts", _, "connections"):
                of = request[2] if len(request) > 2 else None
                return [connection_row(each) for each in self._connections(of)]
            case _:
                raise ManagementError(
                    f"the embedded broker has no {request[0]} {'/'.join(request[1:])}",
                    status=HTTPStatus.NOT_IMPLEMENTED,
                )
        return None

    def _vhost(self, name: str) -> VirtualHost:
        vhost = self._node.vhosts.get(name)
        if vhost is None:
            raise _missing(f"virtual host {name!r}")
        return vhost

    def _connections(self, vhost: str | None) -> list[Connection]:
        return self._server().connections(vhost)

    def _close(self, vhost: str | None, reason: str, name: str | None = None) -> None:
        for connection in self._connections(vhost):
            if name in (None, connection.name):
                connection.fail(AMQPError(320, reason))


def _missing(what: str) -> ManagementError:
    return ManagementError(f"there is no {what}", status=HTTPStatus.NOT_FOUND)
