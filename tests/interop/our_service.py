"""A service on our package that answers in each of the ways that existing services do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
from pydantic import BaseModel, ConfigDict

from neon_mq_connector import MQConnector, create_mq_callback
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.support.polling import eventually


class Received:
    """What a service of ours was sent, by the consumer that got it; filled from any thread."""

    def __init__(self) -> None:
        self._all: list[tuple[str, dict[str, Any]]] = []

    def add(self, by: str, body: dict[str, Any]) -> None:
        """Note a message."""
        self._all.append((by, body))

    def by(self, consumer: str) -> list[dict[str, Any]]:
        """Return what a consumer got so far."""
        return [body for by, body in list(self._all) if by == consumer]

    def wait(self, consumer: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a consumer has got as many, and return them."""
        eventually(lambda: len(self.by(consumer)) >= count, what=f"our {consumer} receives {count}")
        return self.by(consumer)


class Request(BaseModel):
    """What the validated way of answering takes."""

    model_config = ConfigDict(extra="allow")
    data: dict[Any, Any]
    message_id: str


class OurService(MQConnector):
    """Has a method for each way of answering; nothing is registered yet."""

    def __init__(self, config: dict[str, Any], vhost: str, received: Received) -> None:
        super().__init__(config, "our_service")
        self.vhost = vhost
        self.received = received

    @create_mq_callback()
    def returns(self, body: dict[str, Any]) -> dict[str, Any]:
        self.received.add("returns", body)
        return {"by": "returns", "echo": body.get("data")}

    @create_mq_callback(request_model=Request)
    def validates(self, body: Request) -> dict[str, Any]:
        return {"by": "validates", "echo": body.data}

    def raw(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._publish(channel, self._read("raw", body))

    def raw_ack(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._publish(channel, self._read("raw_ack", body))
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def sends(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.send_message(**self._read("sends", body))

    def emits(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.emit_mq_message(self.consumers["emits"].connection, **self._read("emits", body))

    def counts(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._read("counts", body)
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def collector(self, name: str) -> Callable[..., None]:
        """Make a callback that notes what it gets under a name."""
        return lambda _channel, _method, _properties, body: self.received.add(
            name, b64_to_dict(body)
        )

    def _read(self, by: str, body: bytes) -> dict[str, Any]:
        """Note a request, and return what is to be sent, and where."""
        request = b64_to_dict(body)
        self.received.add(by, request)
        answer = {"by": by, "echo": request.get("data"), "message_id": request["message_id"]}
        return {"request_data": answer, "queue": request.get("routing_key", "")}

    @staticmethod
    def _publish(channel: Any, answer: dict[str, Any]) -> None:
        channel.queue_declare(queue=answer["queue"])
        channel.basic_publish(
            exchange="",
            routing_key=answer["queue"],
            body=dict_to_b64(answer["request_data"]),
            properties=pika.BasicProperties(expiration="1000"),
        )


def start(service: Any) -> None:
    """Run a service with its consumers alone, and return when it is healthy."""
    service.run(run_sync=False, run_observer=False, mq_timeout=120)
    eventually(service.check_health, what="our service is healthy")
