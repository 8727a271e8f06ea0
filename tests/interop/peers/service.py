"""A service on the published package, which answers in each of the ways that services do.

Its queues are `<prefix><way>`; a way is the name of a method of `Service`.
"""

from __future__ import annotations

from typing import Any

# these are beside this file, where Python looks first when it runs a script of this folder
import lines  # type: ignore[import-not-found]
import pika
from waiting import count_consumers, wait_for_consumers  # type: ignore[import-not-found]

from neon_mq_connector.connector import MQConnector
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from neon_mq_connector.utils.rabbit_utils import create_mq_callback


def reply_to(request: dict[str, Any], by: str) -> dict[str, Any]:
    """Make the answer to a request: what it asked, and which way it came back."""
    return {"by": by, "echo": request.get("data"), "message_id": request["message_id"]}


def publish_reply(channel: Any, routing_key: str, reply: dict[str, Any]) -> None:
    """Answer as services with raw callbacks do."""
    channel.queue_declare(queue=routing_key)
    channel.basic_publish(
        exchange="",
        routing_key=routing_key,
        body=dict_to_b64(reply),
        properties=pika.BasicProperties(expiration="1000"),
    )


def note(by: str, method: Any, properties: Any, body: dict[str, Any]) -> None:
    """Tell the test what was received."""
    seen = {name: value for name, value in vars(properties).items() if value is not None}
    lines.tell("got", by=by, body=body, redelivered=method.redelivered, properties=repr(seen))


class Service(MQConnector):
    """Answers every way from the consumer class that the package uses by default."""

    ways: tuple[str, ...] = (
        "returns",
        "raw",
        "raw_ack",
        "context_only",
        "sends",
        "emits",
        "streams",
        "streams_ctx",
    )

    def __init__(self, config: dict[str, Any], vhost: str, prefix: str) -> None:
        super().__init__(config, "old_service")
        self.vhost = vhost
        for way in self.ways:
            self.listen(way, prefix + way, way)

    def listen(self, name: str, queue: str, way: str) -> None:
        """Register a consumer that answers in a certain way."""
        auto_ack = way not in ("raw_ack", "counts")
        self.register_consumer(name, self.vhost, queue, getattr(self, way), auto_ack=auto_ack)

    def start(self) -> None:
        """Run, and return when all consume."""
        self.run(run_sync=False, run_observer=False)
        wait_for_consumers(self, {thread.queue: 1 for thread in self.consumers.values()})

    def start_another(self, name: str, queue: str, way: str) -> None:
        """Register one more consumer, and return when it consumes."""
        before = count_consumers(self, [queue])[queue]
        self.listen(name, queue, way)
        self.run_consumers(names=(name,))
        wait_for_consumers(self, {queue: before + 1})

    @create_mq_callback(include_callback_props=("method", "properties", "body"))
    def returns(self, method: Any, properties: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Answer by returning a dict."""
        note("returns", method, properties, body)
        return {"by": "returns", "echo": body.get("data")}

    def raw(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer on the channel, the request having been acknowledged on receipt."""
        request = b64_to_dict(body)
        note("raw", method, properties, request)
        publish_reply(channel, request["routing_key"], reply_to(request, "raw"))

    def raw_ack(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer on the channel, then acknowledge."""
        request = b64_to_dict(body)
        note("raw_ack", method, properties, request)
        publish_reply(channel, request["routing_key"], reply_to(request, "raw_ack"))
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def context_only(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with the request's id nowhere but in the context."""
        request = b64_to_dict(body)
        note("context_only", method, properties, request)
        context = {"mq": {"message_id": request["message_id"]}}
        reply = {"by": "context_only", "echo": request.get("data"), "context": context}
        publish_reply(channel, request["routing_key"], reply)

    def sends(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with `send_message`, on a connection made for it."""
        request = b64_to_dict(body)
        note("sends", method, properties, request)
        self.send_message(
            reply_to(request, "sends"), vhost=self.vhost, queue=request["routing_key"]
        )

    def emits(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer with `emit_mq_message`, on the consumer's own connection."""
        request = b64_to_dict(body)
        note("emits", method, properties, request)
        self.emit_mq_message(
            self.consumers["emits"].connection,
            reply_to(request, "emits"),
            queue=request["routing_key"],
        )

    def streams(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer in parts, the last of which says so in the body."""
        request = b64_to_dict(body)
        note("streams", method, properties, request)
        for part in range(request["parts"]):
            final = part == request["parts"] - 1
            reply = {**reply_to(request, "streams"), "part": part, "is_final": final}
            publish_reply(channel, request["routing_key"], reply)

    def streams_ctx(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Answer in parts, the last of which says so in its context."""
        request = b64_to_dict(body)
        note("streams_ctx", method, properties, request)
        for part in range(request["parts"]):
            final = part == request["parts"] - 1
            context = {"mq": {"message_id": request["message_id"], "_is_final": final}}
            publish_reply(channel, request["routing_key"], {"part": part, "context": context})

    def counts(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Acknowledge and answer nothing."""
        note("counts", method, properties, b64_to_dict(body))
        channel.basic_ack(delivery_tag=method.delivery_tag)


def main() -> None:
    """Serve until the test hangs up."""
    settings = lines.setup()
    service = Service(settings["config"], settings["vhost"], settings["prefix"])
    service.start()
    lines.answer({"listen": service.start_another})


if __name__ == "__main__":
    main()
