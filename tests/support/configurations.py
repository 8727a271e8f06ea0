"""The dicts that services of an embedded or private broker are configured by."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker

#: Settings for a machine that stands still for a while: what is meant to succeed has time for it,
#: and messages wait for ever for consumers that are not there yet.
PATIENT: dict[str, Any] = {
    "connect_timeout": 60,
    "operation_timeout": 120,
    "publish_timeout": 120,
    "request_timeout": 120,
    "stop_timeout": 120,
    "message_expiration": None,
}


def config_of(
    broker: EmbeddedBroker | PrivateBroker, *services: str, **more: Any
) -> dict[str, Any]:
    """Make a configuration in which these services are the administrator."""
    user = {"user": broker.username, "password": broker.password}
    users = dict.fromkeys(services, user)
    return {"server": broker.host, "port": broker.port, "users": users, **PATIENT, **more}
