"""A connector with an open pika connection, for code that talks to the broker by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pika

from neon_mq_connector.connector import MQConnector


class NeonMQHandler(MQConnector):
    """Hold a pika `BlockingConnection` to one virtual host; `shutdown` closes it.

    Args:
        config: as for `MQConnector`.
        service_name: as for `MQConnector`.
        vhost: the virtual host, as it is.

    Raises:
        pika.exceptions.AMQPConnectionError: no server answers, or it refused.
        ConfigurationError: there are no credentials for the service.
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str, vhost: str) -> None:
        super().__init__(config, service_name)
        self.vhost = vhost
        self.connection: pika.BlockingConnection = self.create_mq_connection(vhost=vhost)

    def shutdown(self) -> None:
        """Close the connection; a second time does no harm."""
        if self.connection.is_open:
            self.connection.close()
        self.stop()
