"""The dicts that services pass to their connectors."""

from __future__ import annotations

from typing import Any

SERVICE = "contract_service"
CLIENT = "mq_handler"


def make_config(
    host: str, port: int, username: str, password: str, *services: str, **extra: Any
) -> dict[str, Any]:
    """Return the dict that services of the ecosystem pass to their connectors."""
    names = (SERVICE, CLIENT, *services)
    return {
        "server": host,
        "port": port,
        "users": {name: {"user": username, "password": password, **extra} for name in names},
    }
