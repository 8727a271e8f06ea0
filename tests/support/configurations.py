"""The dicts that services of an embedded or private broker are configured by."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker


def config_of(
    broker: EmbeddedBroker | PrivateBroker, *services: str, **more: Any
) -> dict[str, Any]:
    """Make a configuration in which these services are the administrator."""
    user = {"user": broker.username, "password": broker.password}
    users = dict.fromkeys(services, user)
    return {"server": broker.host, "port": broker.port, "users": users, **more}
