"""A gateway: each request is passed on over a handler made for it, the answer is waited for."""

from __future__ import annotations

import threading
from typing import Any

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.client_utils import NeonMQHandler
from neon_mq_connector.utils.network_utils import b64_to_dict
from neon_mq_connector.utils.rabbit_utils import create_mq_callback


class Gateway(MQConnector):
    """Pass requests on to another service's queue."""

    def __init__(self, config: dict[str, Any], vhost: str, backend_queue: str) -> None:
        super().__init__(config, "gateway")
        self.vhost = vhost
        self.backend_queue = backend_queue
        self.register_consumer("front", self.vhost, "gateway_input", self.on_request)

    def on_request(self, channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        answer = self.ask_backend({"payload": request["payload"]})
        answer["context"] = {"mq": {"message_id": request["message_id"]}}
        self.emit_mq_message(channel.connection, answer, queue=request["routing_key"])

    def ask_backend(self, request: dict[str, Any]) -> dict[str, Any]:
        answered = threading.Event()
        answers: list[dict[str, Any]] = []
        reply_queue = f"gateway_reply_{self.create_unique_id()}"

        def on_answer(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            answers.append(b64_to_dict(body))
            channel.basic_ack(method.delivery_tag)
            channel.queue_delete(reply_queue)
            answered.set()

        handler = NeonMQHandler(self.config, "mq_handler", self.vhost)
        try:
            handler.register_consumer("answer", self.vhost, reply_queue, on_answer, auto_ack=False)
            handler.run_consumers()
            request_id = handler.emit_mq_message(
                handler.connection,
                {**request, "routing_key": reply_queue},
                queue=self.backend_queue,
            )
            if not answered.wait(30):
                return {"error": f"no answer to {request_id}"}
            return {"backend": answers[0], "request_id": request_id}
        finally:
            handler.stop()
            handler.shutdown()


class Backend(MQConnector):
    """What the gateway asks: answers by returning."""

    def __init__(self, config: dict[str, Any], vhost: str) -> None:
        super().__init__(config, "users_service")
        self.vhost = vhost
        self.register_consumer("work", self.vhost, "backend", self.work)

    @create_mq_callback()
    def work(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"twice": body["payload"] * 2}
