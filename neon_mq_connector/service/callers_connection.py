"""Send for a caller who holds a pika connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pika
import pika.exceptions as pika_errors

from neon_mq_connector import tracing
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import Connections
from neon_mq_connector.publishing.encoded_message import encode_message
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.service.shared_clients import shared_client

#: How long to wait for a broker where nothing says so, in seconds: the default of the setting
#: ``publish_timeout``.
_PUBLISH_TIMEOUT = 30.0
#: The attribute of a connection that this library has made: the connections of the service that it
#: was made for, and how long a message may take, in seconds.
_OWNER = "_neon_mq_owner"


def remember_owner(
    connection: pika.BlockingConnection, own: Connections | None, publish_timeout: float
) -> None:
    """Note which service a connection was made for.

    Args:
        connection: the connection.
        own: the service's own connections to the same virtual host, with the same parameters.
        publish_timeout: how long a message may take, in seconds.
    """
    setattr(connection, _OWNER, (own, publish_timeout))


def emit(
    connection: Any, request_data: Mapping[str, Any], destination: Destination, expiration: int
) -> str:
    """Send a message to where a connection leads, and wait until the broker has it.

    A pika connection belongs to one thread, does not tell to which, and has no time-outs. So it is
    not used itself: the message goes over connections of the service that it was made for, or else
    over those that the process keeps for its parameters.

    Args:
        connection: any of pika's, or the ``connection`` of a consumer thread or of a callback's
            channel.
        request_data: the message.
        destination: where it goes; what is missing there is declared.
        expiration: how long it may wait in a queue, in milliseconds.

    Returns:
        The message's id.

    Raises:
        TypeError, ValueError: the data is no message.
        pika.exceptions.ConnectionWrongStateError: the connection is closed.
        MQError: as `Publisher.publish`.
    """
    with tracing.publishing(destination.exchange, destination.queue):
        encoded = encode_message(request_data, wire_format=WireFormat.LEGACY, expiration=expiration)
        if not connection.is_open:
            raise pika_errors.ConnectionWrongStateError(
                f"{destination}: a message needs an open connection; this one is closed"
            )
        connections, timeout = _connections_of(connection)
        connections.publisher.publish(destination.message(encoded), timeout=timeout)
    return encoded.message_id


def _connections_of(connection: Any) -> tuple[Connections, float]:
    """Return the connections by which a message goes, and how long it may take, in seconds."""
    if not isinstance(connection, (pika.BlockingConnection, pika.connection.Connection)):
        return connection.connections, _PUBLISH_TIMEOUT
    connections, timeout = getattr(connection, _OWNER, (None, _PUBLISH_TIMEOUT))
    if connections is None or connections.is_closed:
        # a blocking connection has its parameters in its implementation only
        holder: Any = getattr(connection, "_impl", connection)
        connections = shared_client([holder.params]).connections
    return connections, timeout
