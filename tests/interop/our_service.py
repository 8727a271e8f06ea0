"""A service on our package that answers in each of the ways that existing services do.

The package is imported when a service is made, so that these tests are collected without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pika

from tests.support.polling import eventually


class Received:
    """What a service of ours was sent, by the consumer that got it; filled from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: dict[str, list[dict[str, Any]]] = {}

    def add(self, by: str, body: dict[str, Any]) -> None:
        """Note a message."""
        with self._lock:
            self._bodies.setdefault(by, []).append(body)

    def by(self, consumer: str) -> list[dict[str, Any]]:
        """Return what a consumer got so far."""
        with self._lock:
            return list(self._bodies.get(consumer, ()))

    def wait(self, consumer: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a consumer has got as many, and return them."""
        eventually(lambda: len(self.by(consumer)) >= count, what=f"our {consumer} receives {count}")
        return self.by(consumer)


def make_service(config: dict[str, Any], vhost: str, received: Received) -> Any:
    """Make a connector with one method for each way of answering; nothing is registered yet."""
    from pydantic import BaseModel, ConfigDict

    from neon_mq_connector import MQConnector
    from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
    from neon_mq_connector.utils.rabbit_utils import create_mq_callback

    class Request(BaseModel):
        """What the validated way of answering takes."""

        model_config = ConfigDict(extra="allow")
        data: dict[Any, Any]
        message_id: str

    def reply_to(request: dict[str, Any], by: str) -> dict[str, Any]:
        return {"by": by, "echo": request.get("data"), "message_id": request["message_id"]}

    def publish_reply(channel: Any, routing_key: str, reply: dict[str, Any]) -> None:
        channel.queue_declare(queue=routing_key)
        channel.basic_publish(
            exchange="",
            routing_key=routing_key,
            body=dict_to_b64(reply),
            properties=pika.BasicProperties(expiration="1000"),
        )

    class OurService(MQConnector):
        """Answers every way."""

        def __init__(self) -> None:
            super().__init__(config, "our_service")
            self.vhost = vhost

        @create_mq_callback()
        def returns(self, body: dict[str, Any]) -> dict[str, Any]:
            received.add("returns", body)
            return {"by": "returns", "echo": body.get("data")}

        @create_mq_callback(request_model=Request)
        def validates(self, body: Request) -> dict[str, Any]:
            return {"by": "validates", "echo": body.data}

        def raw(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            received.add("raw", request)
            publish_reply(channel, request["routing_key"], reply_to(request, "raw"))

        def raw_ack(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            received.add("raw_ack", request)
            publish_reply(channel, request["routing_key"], reply_to(request, "raw_ack"))
            channel.basic_ack(delivery_tag=method.delivery_tag)

        def sends(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            self.send_message(reply_to(request, "sends"), queue=request["routing_key"])

        def emits(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            self.emit_mq_message(
                self.consumers["emits"].connection,
                reply_to(request, "emits"),
                queue=request["routing_key"],
            )

        def streams(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            request = b64_to_dict(body)
            for part in range(request["parts"]):
                final = part == request["parts"] - 1
                reply = {**reply_to(request, "streams"), "part": part, "is_final": final}
                publish_reply(channel, request["routing_key"], reply)

        def counts(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
            received.add("counts", b64_to_dict(body))
            channel.basic_ack(delivery_tag=method.delivery_tag)

        def collector(self, name: str) -> Callable[..., None]:
            """Make a callback that notes what it gets under a name."""

            def collect(channel: Any, method: Any, properties: Any, body: bytes) -> None:
                received.add(name, b64_to_dict(body))

            return collect

    return OurService()


def start(service: Any) -> None:
    """Run a service with its consumers alone, and return when it is healthy."""
    service.run(run_sync=False, run_observer=False, mq_timeout=10)
    eventually(service.check_health, what="our service is healthy")
