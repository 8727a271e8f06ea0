"""The embedded broker's answers to calls that RabbitMQ's management interface takes."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from neon_mq_connector.operations.management import ManagementError
from neon_mq_connector.testing.embedded.connection import Connection
from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.exchange import Binding, Exchange
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.server import Server
from neon_mq_connector.testing.embedded.tables import plain_table
from neon_mq_connector.testing.embedded.users import Rights
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost
from neon_mq_connector.testing.management import ManagementClient, Row

_NODE_NAME = "embedded@localhost"


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
                return [_queue_row(each) for each in self._vhost(vhost).queues.values()]
            case "GET", "queues", vhost, name:
                if name not in self._vhost(vhost).queues:
                    raise _missing(f"queue {name!r} in {vhost!r}")
                return _queue_row(self._vhost(vhost).queues[name])
            case "DELETE", "queues", vhost, name:
                self._vhost(vhost).remove_queue(name)
            case "DELETE", "exchanges", vhost, name:
                self._vhost(vhost).delete_exchange(name)
            case "GET", "exchanges", vhost:
                return [
                    _exchange_row(each, vhost) for each in self._vhost(vhost).exchanges.values()
                ]
            case "GET", "bindings", vhost:
                return _binding_rows(self._vhost(vhost))
            case "GET", "consumers", vhost:
                return [row for each in self._connections(vhost) for row in _consumer_rows(each)]
            case ("GET", "connections") | ("GET", "vhosts", _, "connections"):
                of = request[2] if len(request) > 2 else None
                return [_connection_row(each) for each in self._connections(of)]
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


def _queue_row(queue: Queue) -> Row:
    return {
        "name": queue.name,
        "vhost": queue.vhost.name,
        "type": queue.type,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner is not None,
        "arguments": plain_table(queue.arguments),
        "messages": len(queue.ready) + queue.unacknowledged,
        "messages_ready": len(queue.ready),
        "messages_unacknowledged": queue.unacknowledged,
        "consumers": len(queue.consumers),
        "state": "running",
        "node": _NODE_NAME,
    }


def _exchange_row(exchange: Exchange, vhost: str) -> Row:
    return {
        "name": exchange.name,
        "vhost": vhost,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": plain_table(exchange.arguments),
    }


def _binding_rows(vhost: VirtualHost) -> list[Row]:
    """Return all bindings of a virtual host, those of the default exchange included."""
    implied = [Binding("", "queue", name, name) for name in vhost.queues]
    explicit = [each for exchange in vhost.exchanges.values() for each in exchange.bindings]
    return [
        {
            "source": each.source,
            "vhost": vhost.name,
            "destination": each.destination,
            "destination_type": each.kind,
            "routing_key": each.routing_key,
            "arguments": plain_table(each.arguments),
            "properties_key": each.routing_key or "~",
        }
        for each in (*implied, *explicit)
    ]


def _connection_row(connection: Connection) -> Row:
    properties = plain_table(connection.client_properties)
    return {
        "name": connection.name,
        "user_provided_name": properties.get("connection_name"),
        "vhost": connection.vhost.name,
        "user": connection.user.name,
        "state": "blocked" if connection.blocked else connection.state.value,
        "channels": len(connection.channels),
        "client_properties": properties,
        "peer_host": connection.peer[0],
        "peer_port": connection.peer[1],
        "host": connection.local[0],
        "port": connection.local[1],
        "protocol": "AMQP 0-9-1",
        "auth_mechanism": connection.mechanism,
        "frame_max": connection.frame_max,
        "channel_max": connection.channel_max,
        "timeout": connection.heartbeat,
        "connected_at": int(connection.connected_at * 1000),
        "type": "network",
        "node": _NODE_NAME,
    }


def _consumer_rows(connection: Connection) -> list[Row]:
    return [
        _consumer_row(*subscription, connection, channel.number)
        for channel in connection.channels.values()
        for subscription in channel.consuming.subscriptions.values()
    ]


def _consumer_row(consumer: Consumer, queue: Queue, connection: Connection, channel: int) -> Row:
    waits = queue.single_active and queue.active is not consumer
    status = "single_active" if queue.single_active else "up"
    return {
        "consumer_tag": consumer.tag,
        "queue": {"name": queue.name, "vhost": queue.vhost.name},
        "ack_required": not consumer.no_ack,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "arguments": plain_table(consumer.arguments),
        "active": not waits,
        "activity_status": "waiting" if waits else status,
        "channel_details": {
            "name": f"{connection.name} ({channel})",
            "number": channel,
            "connection_name": connection.name,
            "peer_host": connection.peer[0],
            "peer_port": connection.peer[1],
            "user": connection.user.name,
            "node": _NODE_NAME,
        },
    }
