"""What is in the broker, in the form in which RabbitMQ's management interface lists it."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.testing.embedded.connection import Connection
from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.exchange import Binding, Exchange
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.tables import plain_table
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

Row = dict[str, Any]

NODE_NAME = "embedded@localhost"


def queue_row(queue: Queue) -> Row:
    """Return a queue as it is listed."""
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
        "consumers": len(queue.turns),
        "state": "running",
        "node": NODE_NAME,
    }


def exchange_row(exchange: Exchange, vhost: str) -> Row:
    """Return an exchange as it is listed."""
    return {
        "name": exchange.name,
        "vhost": vhost,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": plain_table(exchange.arguments),
    }


def binding_rows(vhost: VirtualHost) -> list[Row]:
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
            "arguments": plain_table(each.table),
            "properties_key": each.routing_key or "~",
        }
        for each in (*implied, *explicit)
    ]


def connection_row(connection: Connection) -> Row:
    """Return a connection as it is listed."""
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
        "node": NODE_NAME,
    }


def consumer_rows(connection: Connection) -> list[Row]:
    """Return the consumers of a connection as they are listed."""
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
            "node": NODE_NAME,
        },
    }
