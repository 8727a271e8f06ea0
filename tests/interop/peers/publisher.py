"""A publisher on the published package."""

from __future__ import annotations

from typing import Any

# beside this file, where Python looks first when it runs a script of this folder
import lines  # type: ignore[import-not-found]

from neon_mq_connector.connector import MQConnector


class Publisher(MQConnector):
    """Publishes in each of the ways that the package has."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        super().__init__(config, "old_service")
        self.vhost = vhost

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


def main() -> None:
    """Publish until the test hangs up."""
    settings = lines.setup()
    publisher = Publisher(settings["config"], settings["vhost"])
    lines.answer(
        {"send": publisher.send, "emit": publisher.emit, "publish": publisher.publish},
    )


if __name__ == "__main__":
    main()
