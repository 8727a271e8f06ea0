"""A virtual host without sockets."""

from __future__ import annotations

from neon_mq_connector.testing.embedded.host import NodeState
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.tables import Field, Table
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

NO_PROPERTIES = b"\0\0"


def new_vhost() -> VirtualHost:
    """Make a virtual host."""
    return VirtualHost("/", NodeState())


def fields(**arguments: object) -> Table:
    """Make the arguments of a queue; underscores stand for dashes."""
    types = {bool: "bool", int: "signedint", str: "longstr"}
    return {
        f"x-{name.replace('_', '-')}": Field(types[type(value)], value)
        for name, value in arguments.items()
    }


def declare(vhost: VirtualHost, name: str, **arguments: object) -> Queue:
    """Declare a durable queue."""
    return vhost.declare_queue(
        name, durable=True, auto_delete=False, owner=None, arguments=fields(**arguments)
    )


def publish(queue: Queue, *bodies: bytes, priority: int | None = None) -> None:
    """Publish messages to a queue."""
    for body in bodies:
        message = Message("", queue.name, NO_PROPERTIES, body)
        message.priority = priority
        queue.publish(message)


def waiting(queue: Queue) -> list[bytes]:
    """Return the bodies that wait, in their order."""
    return [entry.message.body for entry in queue.ready]
