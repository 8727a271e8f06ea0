"""A service on the published package, which answers in each of the ways that services do.

Its queues are `<prefix><way>`; a way is the name of a method of `Service`.
"""

from __future__ import annotations

from typing import Any

# beside this file, where Python looks first when it runs a script of this folder
import lines  # type: ignore[import-not-found]
import pika

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from neon_mq_connector.utils.rabbit_utils import create_mq_callback


def read(by: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Read a request; return where its answer goes, and the answer: what it asked, and the way."""
    request = b64_to_dict(body)
    answer = {"by": by, "echo": request.get("data"), "message_id": request["message_id"]}
    return request["routing_key"], answer


def publish(channel: Any, queue: str, answer: dict[str, Any]) -> None:
    """Answer as services with raw callbacks do."""
    channel.queue_declare(queue=queue)
    channel.basic_publish(
        exchange="",
        routing_key=queue,
        body=dict_to_b64(answer),
        properties=pika.BasicProperties(expiration="1000"),
    )


def in_context(answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Move the request's id to where it is nowhere but in the context."""
    message_id = answer.pop("message_id")
    return {**answer, "context": {"mq": {"message_id": message_id, **more}}}


class Service(MQConnector):
    """Answers every way from the consumer class that the package uses by default."""

    ways = ("returns", "raw", "raw_ack", "context_only", "sends", "emits", "streams", "streams_ctx")

    def __init__(self, config: dict[str, Any], vhost: str, prefix: str) -> None:
        super().__init__(config, "old_service")
        self.vhost = vhost
        for way in self.ways:
            self.listen(way, prefix + way, way)

    def listen(self, name: str, queue: str, way: str) -> None:
        """Register a consumer that answers in a certain way."""
        self.register_consumer(
            name, self.vhost, queue, getattr(self, way), auto_ack=way != "raw_ack"
        )

    def start(self) -> None:
        """Run, and return when all consume."""
        self.run(run_sync=False, run_observer=False)
        lines.wait_for_consumers(self, *(thread.queue for thread in self.consumers.values()))

    def start_another(self, name: str, queue: str, way: str) -> None:
        """Register one more consumer, of a queue that has none, and return when it consumes."""
        self.listen(name, queue, way)
        self.run_consumers(names=(name,))
        lines.wait_for_consumers(self, queue)

    @create_mq_callback(include_callback_props=("body",))
    def returns(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer by returning a dict."""
        return {"by": "returns", "echo": body.get("data")}

    def raw(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer on the channel, the request having been acknowledged on receipt."""
        publish(channel, *read("raw", body))

    def raw_ack(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer on the channel, then acknowledge."""
        publish(channel, *read("raw_ack", body))
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def context_only(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with the request's id in the context."""
        queue, answer = read("context_only", body)
        publish(channel, queue, in_context(answer))

    def sends(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with `send_message`, on a connection made for it."""
        queue, answer = read("sends", body)
        self.send_message(answer, vhost=self.vhost, queue=queue)

    def emits(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with `emit_mq_message`, on the consumer's own connection."""
        queue, answer = read("emits", body)
        self.emit_mq_message(self.consumers["emits"].connection, answer, queue=queue)

    def streams(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer in parts, the last of which says so in the body."""
        parts = b64_to_dict(body)["parts"]
        for part in range(parts):
            queue, answer = read("streams", body)
            publish(channel, queue, {**answer, "part": part, "is_final": part == parts - 1})

    def streams_ctx(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer in parts, the last of which says so in its context."""
        parts = b64_to_dict(body)["parts"]
        for part in range(parts):
            queue, answer = read("streams_ctx", body)
            final = in_context(answer, _is_final=part == parts - 1)
            publish(channel, queue, {**final, "part": part})


def main() -> None:
    """Serve until the test hangs up."""
    settings = lines.setup()
    service = Service(settings["config"], settings["vhost"], settings["prefix"])
    service.start()
    lines.answer({"listen": service.start_another})


if __name__ == "__main__":
    main()
