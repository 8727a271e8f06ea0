"""A service or client written with plain pika, for seeing what the library does from outside.

Nothing of the package under test is imported here: bodies are written and read with the standard
library, so that a fault in the library's codec cannot hide itself.
"""

from __future__ import annotations

import ast
import base64
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from tests.support.polling import eventually

DEADLINE = 120.0


def encode(message: Mapping[Any, Any]) -> bytes:
    """Write a dict the way services of the ecosystem do: base64 of a JSON string of its repr."""
    return base64.b64encode(json.dumps(repr(dict(message))).encode())


def decode(body: bytes) -> Any:
    """Read a legacy body or a JSON one."""
    if body.lstrip().startswith(b"{"):
        return json.loads(body)
    return ast.literal_eval(json.loads(base64.b64decode(body)))


@dataclass(frozen=True)
class Message:
    """What a queue held."""

    body: dict[str, Any]
    properties: pika.BasicProperties
    exchange: str
    routing_key: str
    raw: bytes = field(repr=False, default=b"")


class Peer:
    """Declare, publish and fetch over a pika connection of its own; for one thread."""

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self.parameters = parameters
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    @property
    def connection(self) -> pika.BlockingConnection:
        if self._connection is None or not self._connection.is_open:
            self._connection = pika.BlockingConnection(self.parameters)
        return self._connection

    @property
    def channel(self) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            self._channel = self.connection.channel()
        return self._channel

    def close(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def queue(self, prefix: str = "peer") -> str:
        """Declare a durable queue, which every broker allows, and return its name."""
        name = f"{prefix}_{uuid4().hex[:8]}"
        self.channel.queue_declare(name, durable=True)
        return name

    def listen(self, exchange: str, kind: str = "fanout", routing_key: str = "") -> str:
        """Bind a queue of our own to an exchange, declared as peers of the ecosystem do."""
        try:
            self.channel.exchange_declare(exchange, passive=True)
        except ChannelClosedByBroker:
            self.channel.exchange_declare(exchange, kind)
        queue = str(self.channel.queue_declare("", exclusive=True).method.queue)
        self.channel.queue_bind(queue, exchange, routing_key)
        return queue

    def publish(
        self,
        body: Mapping[str, Any] | bytes,
        *,
        queue: str = "",
        exchange: str = "",
        **properties: Any,
    ) -> None:
        raw = body if isinstance(body, bytes) else encode(body)
        self.channel.basic_publish(exchange, queue, raw, pika.BasicProperties(**properties))

    def peek(self, queue: str) -> Message | None:
        """Take one message if the queue exists and has one."""
        try:
            method, properties, raw = self.channel.basic_get(queue, auto_ack=True)
        except ChannelClosedByBroker:
            return None
        if method is None:
            return None
        assert properties is not None
        assert raw is not None
        return Message(decode(raw), properties, method.exchange, method.routing_key, raw)

    def get(self, queue: str, timeout: float = DEADLINE) -> Message:
        """Take one message, waiting for it."""
        message = eventually(
            lambda: self.peek(queue), timeout=timeout, what=f"a message in {queue}"
        )
        assert message is not None
        return message

    def depth(self, queue: str) -> int | None:
        """Count the messages that are ready in a queue; None when there is no such queue."""
        declared = self._passive(queue)
        return None if declared is None else int(declared.message_count)

    def consumers(self, queue: str) -> int:
        declared = self._passive(queue)
        return 0 if declared is None else int(declared.consumer_count)

    def exists(self, queue: str) -> bool:
        return self._passive(queue) is not None

    def _passive(self, queue: str) -> Any:
        try:
            return self.channel.queue_declare(queue, passive=True).method
        except ChannelClosedByBroker:
            return None

    def wait_for_consumer(self, queue: str, count: int = 1) -> None:
        eventually(
            lambda: self.consumers(queue) == count,
            timeout=DEADLINE,
            what=f"{count} consumer(s) on {queue}",
        )


Answer = Callable[[BlockingChannel, dict[str, Any]], None]


class OldStyleService:
    """Answer requests as services in the field do: declare the reply queue, publish to it."""

    def __init__(
        self, parameters: pika.ConnectionParameters, queue: str, answer: Answer | None = None
    ) -> None:
        self.queue = queue
        self.requests: list[dict[str, Any]] = []
        self.failures: list[BaseException] = []
        self._answer = answer or echo
        self._parameters = parameters
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"old-style:{queue}", daemon=True)

    def start(self) -> OldStyleService:
        self._thread.start()
        assert self._ready.wait(DEADLINE)
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE)

    def _serve(self) -> None:
        connection = pika.BlockingConnection(self._parameters)
        channel = connection.channel()
        channel.queue_declare(self.queue, durable=True)
        self._ready.set()
        for _method, _properties, raw in channel.consume(
            self.queue, auto_ack=True, inactivity_timeout=0.02
        ):
            if self._stopping.is_set():
                break
            if raw is None:
                continue
            request = decode(raw)
            self.requests.append(request)
            try:
                self._answer(channel, request)
            except AMQPError as error:
                self.failures.append(error)
                break
        if connection.is_open:
            connection.close()


def send_answer(channel: BlockingChannel, request: Mapping[str, Any], answer: Any) -> None:
    """Declare the reply queue with pika's defaults and publish a legacy body to it."""
    channel.queue_declare(queue=request["routing_key"])
    channel.basic_publish(
        exchange="",
        routing_key=request["routing_key"],
        body=encode(answer),
        properties=pika.BasicProperties(expiration="1000"),
    )


def echo(channel: BlockingChannel, request: dict[str, Any]) -> None:
    """Answer with what was asked, matched by the request's id."""
    if "routing_key" in request:
        send_answer(
            channel,
            request,
            {"echo": request, "context": {"mq": {"message_id": request["message_id"]}}},
        )


Act = Callable[[Any, Any, Any, bytes], Any]


class Inbox:
    """A consumer's callback that records each delivery, then acts on it.

    Args:
        act: called with the callback's own four arguments after recording; nothing by default.
    """

    def __init__(self, act: Act | None = None) -> None:
        self.deliveries: list[tuple[Any, Any, Any, bytes]] = []
        self.threads: list[threading.Thread] = []
        self._act = act

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> Any:
        self.threads.append(threading.current_thread())
        self.deliveries.append((channel, method, properties, body))
        return None if self._act is None else self._act(channel, method, properties, body)

    @property
    def bodies(self) -> list[Any]:
        return [decode(body) for _, _, _, body in list(self.deliveries)]

    def values(self, key: str) -> list[Any]:
        return [body.get(key) for body in self.bodies]

    def wait(self, count: int = 1, timeout: float = DEADLINE) -> list[Any]:
        """Return the bodies once there are as many as that."""
        eventually(
            lambda: len(self.deliveries) >= count,
            timeout=timeout,
            what=f"{count} deliveries to the callback",
        )
        return self.bodies


class Errors:
    """An `on_error` that records who failed and why."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, BaseException]] = []

    def __call__(self, thread: Any, exception: BaseException) -> None:
        self.calls.append((thread, exception))

    def wait(self, count: int = 1, timeout: float = DEADLINE) -> list[tuple[Any, BaseException]]:
        eventually(
            lambda: len(self.calls) >= count, timeout=timeout, what=f"{count} calls of on_error"
        )
        return list(self.calls)
