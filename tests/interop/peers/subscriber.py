"""A publisher and subscriber on the published package: it tells what it receives."""

from __future__ import annotations

from typing import Any

# beside this file, where Python looks first when it runs a script of this folder
import lines  # type: ignore[import-not-found]

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict


class Subscriber(MQConnector):
    """Listens to exchanges, in the two ways that the package has for that."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        super().__init__(config, "old_service")
        self.vhost = vhost

    def subscribe(self, name: str, exchange: str) -> None:
        """Listen to a fanout exchange from a queue that the package names."""
        self.register_subscriber(name, self.vhost, self.callback(name), exchange=exchange)
        self.begin(name)

    def consume(self, name: str, exchange: str, exchange_type: str, queue: str) -> None:
        """Listen to any exchange from a queue with a name."""
        self.register_consumer(
            name,
            self.vhost,
            queue,
            self.callback(name),
            exchange=exchange,
            exchange_type=exchange_type,
        )
        self.begin(name)

    def send(self, data: dict[str, Any], **options: Any) -> str:
        """Publish with `send_message`, which makes a connection for it."""
        return str(self.send_message(data, vhost=self.vhost, **options))

    def emit(self, data: dict[str, Any], **options: Any) -> str:
        """Publish with `emit_mq_message`."""
        with self.create_mq_connection(self.vhost) as connection:
            return str(self.emit_mq_message(connection, data, **options))

    def publish(self, data: dict[str, Any], **options: Any) -> str:
        """Publish with `publish_message`, to a fanout exchange."""
        with self.create_mq_connection(self.vhost) as connection:
            return str(self.publish_message(connection, data, **options))

    def callback(self, name: str) -> Any:
        """Make what tells the test of each message."""

        def tell(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            lines.tell("got", by=name, body=b64_to_dict(body), exchange=method.exchange)

        return tell

    def begin(self, name: str) -> None:
        """Start a consumer, and return when it consumes; it is bound by then."""
        self.run_consumers(names=(name,))
        lines.wait_for_consumers(self, self.consumers[name].queue)


def main() -> None:
    """Publish and listen until the test hangs up."""
    settings = lines.setup()
    subscriber = Subscriber(settings["config"], settings["vhost"])
    ways = ("send", "emit", "publish", "subscribe", "consume")
    lines.answer({way: getattr(subscriber, way) for way in ways})


if __name__ == "__main__":
    main()
