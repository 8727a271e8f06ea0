"""The broker that a command talks to: settings, credentials and virtual host in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pika

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.operations.queues import QueueReader, find_queue, open_control
from neon_mq_connector.service.configured import server_parameters
from neon_mq_connector.topology import QueueStatus

if TYPE_CHECKING:
    from neon_mq_connector.config.settings import MQSettings

#: The name under which the command's connections stand on the broker's management page.
COMMAND = "neon-mq"


@dataclass(frozen=True)
class Connection:
    """How a command reaches its broker; nothing is open yet.

    Attributes:
        vhost: the virtual host, as it is.
        settings: the validated settings.
        config: what a connector is given, with one user: the command itself.
    """

    vhost: str
    settings: MQSettings = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def where(self) -> str:
        """The servers, as ``host:port``."""
        return " or ".join(f"{each.host}:{each.port}" for each in self.settings.endpoints)

    def connector(self, name: str = COMMAND) -> MQConnector:
        """Return a connector for a service of that name; it opens nothing yet."""
        (credentials,) = self.config["users"].values()
        return MQConnector({**self.config, "users": {name: credentials}}, name)

    def parameters(self) -> list[pika.ConnectionParameters]:
        """Return pika's parameters, one entry per server."""
        return server_parameters(self.connector(), self.vhost)

    def queue_reader(self, management: str | None) -> QueueReader:
        """Return a reader of queues, which is to be entered.

        Args:
            management: the URL of the management interface; that of the settings by default.
        """
        return QueueReader(
            self.parameters(),
            management=management or self.settings.management_url,
            timeout=self.settings.operation_timeout,
        )

    def find_queue(self, queue: str) -> QueueStatus | None:
        """Look a queue up without making it; None where there is none.

        Raises:
            BrokerUnreachableError, AuthenticationError, VhostAccessError: there is no connection.
        """
        with open_control(self.parameters()) as control:
            return find_queue(control, queue, timeout=self.settings.operation_timeout)
