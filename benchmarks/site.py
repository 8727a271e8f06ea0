"""Where the broker is that everything is measured on; every process of a measurement knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pika


@dataclass(frozen=True)
class Site:
    """A virtual host of a private broker, and who may use it."""

    host: str
    port: int
    vhost: str
    user: str
    password: str

    def parameters(self) -> pika.ConnectionParameters:
        """Return what plain pika takes."""
        return pika.ConnectionParameters(
            self.host,
            self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
        )

    def config(self, *services: str) -> dict[str, Any]:
        """Return what a connector takes, with these services as users."""
        credentials = {"user": self.user, "password": self.password}
        return {
            "server": self.host,
            "port": self.port,
            "users": {service: dict(credentials) for service in services},
        }
