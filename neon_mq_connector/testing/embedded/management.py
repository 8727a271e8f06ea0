"""The embedded broker's counterpart of the client for RabbitMQ's management interface."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from neon_mq_connector.testing.embedded.connection import Connection
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.rows import (
    Row,
    binding_rows,
    connection_row,
    consumer_rows,
    exchange_row,
    queue_row,
)
from neon_mq_connector.testing.embedded.server import Server
from neon_mq_connector.testing.embedded.users import EVERYTHING, Rights
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost
from neon_mq_connector.testing.errors import ManagementError

Answer = TypeVar("Answer")


class EmbeddedManagement:
    """Ask and steer an embedded broker, with the methods of `ManagementClient`.

    Args:
        node: the broker.
        server: returns its server, or raises while it does not run.
    """

    def __init__(self, node: Node, server: Callable[[], Server]) -> None:
        self._node = node
        self._server = server

    def create_vhost(self, name: str) -> None:
        """Create a virtual host; one that exists is left as it is."""
        self._call(lambda: self._node.add_vhost(name))

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all in it and end its connections; a missing one is fine."""

        def delete() -> None:
            for connection in self._connections(name):
                connection.fail(AMQPError(320, f"vhost '{name}' is deleted"))
            self._node.remove_vhost(name)

        self._call(delete)

    def create_user(self, name: str, password: str, *, tags: str = "") -> None:
        """Create a user or change its password.

        Args:
            name: of the user.
            password: of the user.
            tags: such as `administrator`, comma separated.
        """
        self._call(lambda: self._node.add_user(name, password, tags))

    def delete_user(self, name: str) -> None:
        """Delete a user; a missing one is fine."""
        self._call(lambda: self._node.users.pop(name, None))

    def permit(
        self,
        user: str,
        vhost: str,
        *,
        configure: str = EVERYTHING,
        write: str = EVERYTHING,
        read: str = EVERYTHING,
    ) -> None:
        """Let a user use a virtual host; each right is a regular expression of names."""

        def permit() -> None:
            if user not in self._node.users:
                raise _missing(f"user {user!r}")
            self._vhost(vhost)
            self._node.permit(user, vhost, Rights(configure, write, read))

        self._call(permit)

    def queues(self, vhost: str) -> list[Row]:
        """List the queues as they are now: name, properties, arguments, messages, consumers."""
        return self._call(
            lambda: [queue_row(queue) for queue in self._vhost(vhost).queues.values()]
        )

    def queue(self, vhost: str, name: str) -> Row:
        """Return one queue as it is now."""

        def find() -> Row:
            queue = self._vhost(vhost).queues.get(name)
            if queue is None:
                raise _missing(f"queue {name!r} in {vhost!r}")
            return queue_row(queue)

        return self._call(find)

    def exchanges(self, vhost: str) -> list[Row]:
        """List the exchanges, those that every virtual host has included."""
        return self._call(
            lambda: [exchange_row(each, vhost) for each in self._vhost(vhost).exchanges.values()]
        )

    def bindings(self, vhost: str) -> list[Row]:
        """List the bindings, those to the default exchange included."""
        return self._call(lambda: binding_rows(self._vhost(vhost)))

    def consumers(self, vhost: str) -> list[Row]:
        """List the consumers as they are now."""
        return self._call(
            lambda: [row for each in self._connections(vhost) for row in consumer_rows(each)]
        )

    def connections(self, vhost: str | None = None) -> list[Row]:
        """List the connections of one virtual host, or all, as they are now."""
        return self._call(lambda: [connection_row(each) for each in self._connections(vhost)])

    def close_connection(self, name: str) -> None:
        """End a connection from the broker's side: its client is told 320. No error if gone."""

        def close() -> None:
            for connection in self._connections(None):
                if connection.name == name:
                    connection.fail(AMQPError(320, "Closed via management plugin"))

        self._call(close)

    def _call(self, action: Callable[[], Answer]) -> Answer:
        return self._server().call(action)

    def _vhost(self, name: str) -> VirtualHost:
        vhost = self._node.vhosts.get(name)
        if vhost is None:
            raise _missing(f"virtual host {name!r}")
        return vhost

    def _connections(self, vhost: str | None) -> list[Connection]:
        return self._server().connections(vhost)


def _missing(what: str) -> ManagementError:
    return ManagementError(f"there is no {what}", status=HTTPStatus.NOT_FOUND)
