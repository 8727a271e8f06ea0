"""A chat server: a virtual host prefix of its own, subscribers, and broadcasts to everybody."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict

NEWS = "chat_broadcast"


class ChatServer(MQConnector):
    """Take what users say on a queue and repeat it to every server and client that listens."""

    def __init__(
        self, config: dict[str, Any], service_name: str, vhost: str, vhost_prefix: str = ""
    ) -> None:
        super().__init__(config, service_name)
        self.vhost_prefix = vhost_prefix
        self._vhost = vhost
        self.sync_period = 0.2
        self.heard: list[dict[str, Any]] = []
        self.seen_servers: set[str] = set()

    def pre_run(self, **kwargs: Any) -> None:
        self.register_consumer(
            name="said",
            vhost=self.vhost,
            queue="chat_said",
            callback=self.on_said,
            on_error=self.default_error_handler,
            queue_reset=False,
            auto_ack=False,
        )
        self.register_subscriber("news", self.vhost, self.on_news, exchange=NEWS)
        self.register_consumer(
            "sync",
            self.vhost,
            "",
            self.on_sync,
            exchange=f"{self.service_name}_sync",
            exchange_type="fanout",
        )

    def on_said(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        message = b64_to_dict(body)
        self.send_message(
            {"shout": message["shout"], "server": self.service_id},
            exchange=NEWS,
            exchange_type="fanout",
            expiration=3000,
        )
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def on_news(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.heard.append(b64_to_dict(body))

    def on_sync(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.seen_servers.add(b64_to_dict(body)["service_id"])

    def shouts(self) -> list[str]:
        return [message["shout"] for message in self.heard]
