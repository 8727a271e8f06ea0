"""What is said before a connection is open: properties, credentials, limits."""

from __future__ import annotations

import struct

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.tables import Table, TableError, decode_table

#: How a client may begin: with the protocol header of AMQP 0-9-1, or with one that means the same.
PROTOCOL_HEADERS = (b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09")
MECHANISMS = ("PLAIN", "AMQPLAIN")
FRAME_MAX = 131_072
LEAST_FRAME_MAX = 4096
CHANNEL_MAX = 2047
HEARTBEAT_SECONDS = 60

SERVER_PROPERTIES = {
    "capabilities": {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": True,
    },
    "cluster_name": "embedded@localhost",
    "copyright": "Neon MQ Connector contributors",
    "information": "An embedded broker for tests that answers as RabbitMQ does",
    "platform": "Python",
    "product": "Neon MQ embedded broker",
    "version": "4.0.5",
}


def client_can(properties: Table, capability: str) -> bool:
    """Whether a client has told that it has a capability."""
    capabilities = properties.get("capabilities")
    if capabilities is None or capabilities.type != "table":
        return False
    field = capabilities.value.get(capability)
    return field is not None and field.value is True


def credentials(mechanism: str, response: bytes) -> tuple[str, str]:
    """Read name and password from what a client sent to log in.

    Raises:
        AMQPError: 502.
    """
    if mechanism == "PLAIN":
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise AMQPError(502, f"invalid response for PLAIN: {len(parts)} parts")
        return parts[1].decode(errors="replace"), parts[2].decode(errors="replace")
    try:
        table, _ = decode_table(struct.pack(">I", len(response)) + response, 0)
        return str(table["LOGIN"].value), str(table["PASSWORD"].value)
    except (TableError, KeyError) as error:
        raise AMQPError(502, "AMQPLAIN auth info must have LOGIN and PASSWORD") from error


def check_negotiated(field: str, asked: int, least: int, most: int) -> None:
    """Check a limit that a client answered Connection.Tune with.

    Args:
        field: its name.
        asked: what the client wants; 0 stands for no limit.
        least: the least that is allowed.
        most: the most that is allowed.

    Raises:
        AMQPError: 530.
    """
    if asked and asked < least:
        problem = f"{asked} is lower than the minimum allowed value ({least})"
    elif not asked or asked > most:
        detail = " (no limit)" if field == "channel_max" and not asked else ""
        problem = f"{asked}{detail} is higher than the maximum allowed value ({most})"
    else:
        return
    raise AMQPError(530, f"negotiated {field} = {problem}")
