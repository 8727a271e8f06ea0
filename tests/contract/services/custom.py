"""A service that overrides what can be overridden and reads properties of its own."""

from __future__ import annotations

from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict


class CustomService(MQConnector):
    """Count what arrives; restart carefully; be healthy only when warm."""

    step: int
    label: str

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        self.property_key = "custom_properties"
        super().__init__(config, "custom_service")
        self.vhost = vhost
        self.observe_period = 0.2
        self.hooks: list[str] = []
        self.restarts: list[str] = []
        self.warm = False
        self.counted = 0

    @property
    def service_configurable_properties(self) -> dict[str, Any]:
        return {"step": 1, "label": "unlabelled"}

    def pre_run(self, **kwargs: Any) -> None:
        self.hooks.append("pre_run")
        self.register_consumer(
            "counter",
            self.vhost,
            "count",
            self.on_count,
            self.on_error,
            exchange="counting",
            exchange_type="topic",
        )

    def post_run(self, **kwargs: Any) -> None:
        self.hooks.append("post_run")
        self.warm = True

    def on_count(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.counted += self.step * b64_to_dict(body)["count"]

    def on_error(self, thread: Any, exception: Exception) -> None:
        self.hooks.append(f"error: {exception}")

    def restart_consumer(self, name: str) -> None:
        self.restarts.append(name)
        super().restart_consumer(name)

    def check_health(self) -> bool:
        return self.warm and super().check_health()
