"""A users service: raw callbacks, answers with `emit_mq_message` on the consumer's connection."""

from __future__ import annotations

import logging
from typing import Any

import pika.channel

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict

LOG = logging.getLogger(__name__)


class UsersService(MQConnector):
    """Keep user accounts in memory."""

    def __init__(self, config: dict[str, Any] | None, vhost: str) -> None:
        super().__init__(config=config, service_name="users_service")
        self.vhost = vhost
        self.accounts: dict[str, dict[str, Any]] = {}
        self.errors: list[Exception] = []
        self.register_consumers()

    def register_consumers(self) -> None:
        self.register_consumer(
            "create_user",
            self.vhost,
            "create_user",
            self.handle_create,
            self.on_error,
            auto_ack=False,
        )
        self.register_consumer(
            "get_user", self.vhost, "get_user", self.handle_get, self.on_error, auto_ack=False
        )

    def on_error(self, thread: Any, exception: Exception) -> None:
        LOG.error("%s failed: %r", thread, exception)
        self.errors.append(exception)

    def handle_create(
        self,
        channel: pika.channel.Channel,
        method: pika.spec.Basic.Deliver,
        _properties: pika.spec.BasicProperties,
        body: bytes,
    ) -> None:
        request = b64_to_dict(body)
        name = request["user"]["name"]
        if name in self.accounts:
            answer = {"success": False, "error": f"{name} exists", "code": 409}
        else:
            self.accounts[name] = request["user"]
            answer = {"success": True, "user": request["user"]}
        self.answer(channel, request, answer)
        channel.basic_ack(method.delivery_tag)

    def handle_get(
        self,
        channel: pika.channel.Channel,
        method: pika.spec.Basic.Deliver,
        _properties: pika.spec.BasicProperties,
        body: bytes,
    ) -> None:
        request = b64_to_dict(body)
        channel.basic_ack(method.delivery_tag)
        user = self.accounts[request["name"]]
        self.answer(channel, request, {"success": True, "user": user})

    def answer(self, channel: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
        answer["context"] = {"mq": {"message_id": request["message_id"]}}
        self.emit_mq_message(
            connection=channel.connection,
            request_data=answer,
            queue=request["routing_key"],
            expiration=1000,
        )
