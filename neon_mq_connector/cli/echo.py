"""The service and the subscriber that `neon-mq demo` shows at work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.decoded_callback import create_mq_callback


class _OnVhost(MQConnector):
    """A connector whose virtual host is taken as it was given, without prefixes."""

    @property
    def vhost(self) -> str:
        """The virtual host."""
        return self._vhost

    @vhost.setter
    def vhost(self, vhost: str) -> None:
        self._vhost = vhost


class EchoService(_OnVhost):
    """Answer each request with its own text, in capitals."""

    def listen_at(self, queue: str) -> None:
        """Register the consumer; `run` starts it."""
        self.register_consumer("echo", self.vhost, queue, self.on_request)

    @create_mq_callback()
    def on_request(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        return {"text": str(body.get("text", "")).upper()}


class NewsSubscriber(_OnVhost):
    """Keep what is published to an exchange, and when it came."""

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self.received: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()

    def subscribe_to(self, exchange: str) -> None:
        """Register the subscriber; `run` starts it."""
        self.register_subscriber("news", self.vhost, self.on_news, exchange=exchange)

    @create_mq_callback()
    def on_news(self, body: dict[str, Any]) -> None:
        """Keep one message."""
        self.received.put((time.monotonic(), body))
