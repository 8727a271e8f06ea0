"""The names of exchanges and queues: which are allowed, and how new ones are made."""

from __future__ import annotations

import base64
import secrets

from neon_mq_connector.testing.embedded.errors import AMQPError

#: How the names begin that only the broker may give.
RESERVED = "amq."
TRACE_EXCHANGE = "amq.rabbitmq.trace"


def check_not_default(name: str) -> None:
    """Refuse operations on the default exchange.

    Raises:
        AMQPError: 403.
    """
    if name == "":
        raise AMQPError(403, "operation not permitted on the default exchange")


def check_not_reserved(kind: str, name: str) -> None:
    """Refuse names that only the broker may give.

    Raises:
        AMQPError: 403.
    """
    if name.startswith(RESERVED):
        raise AMQPError(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def unique_name(prefix: str) -> str:
    """Return a name that nobody can guess."""
    return f"{prefix}-{base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"
