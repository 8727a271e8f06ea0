"""The three tasks with pika alone."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
import uuid
from typing import Any

import pika
from pydantic import BaseModel, ValidationError

PRICES = {"tea": 3.5}


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


def connect() -> pika.BlockingConnection:
    """Open a connection. It belongs to the thread that opens it, and does not come back."""
    return pika.BlockingConnection(pika.URLParameters(os.environ["NEON_MQ_URL"]))


def serve(ready: threading.Event) -> None:
    """Consume all queues; a callback that takes minutes would cost the heartbeat."""
    channel = connect().channel()
    channel.queue_declare("compared_price", durable=True)
    channel.exchange_declare("compared_dead", "fanout", durable=True)
    channel.queue_declare("compared_jobs.dead", durable=True)
    channel.queue_bind("compared_jobs.dead", "compared_dead")
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "compared_dead",
    }
    channel.queue_declare("compared_jobs", durable=True, arguments=arguments)
    channel.exchange_declare("compared_news", "fanout")
    channel.basic_qos(prefetch_count=50)
    channel.basic_consume("compared_price", on_price)
    channel.basic_consume("compared_jobs", on_job)
    for reader in ("alice", "bob"):
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "compared_news")
        channel.basic_consume(queue, functools.partial(on_news, reader), auto_ack=True)
    ready.set()
    channel.start_consuming()


def on_price(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    """Answer. How an error looks is for the client and the service to agree on."""
    answer: dict[str, Any]
    try:
        item = Item.model_validate_json(body)
        answer = {"price": PRICES[item.name] * item.count}
    except (ValidationError, KeyError) as error:
        answer = {"error": repr(error)}
    reply = pika.BasicProperties(correlation_id=properties.correlation_id)
    channel.basic_publish("", properties.reply_to, json.dumps(answer).encode(), reply)
    channel.basic_ack(method.delivery_tag)


def on_job(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    """Work. The broker counts the tries, repeats at once, and dead-letters at its limit."""
    tries = (properties.headers or {}).get("x-delivery-count", 0) + 1
    if json.loads(body)["number"] == 2 or tries < 3:
        channel.basic_nack(method.delivery_tag)
        return
    print(f"job 1 done after {tries} tries", flush=True)
    channel.basic_ack(method.delivery_tag)


def on_news(reader: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
    """Read news."""
    print(f"{reader} reads: {json.loads(body)['headline']}", flush=True)


class Client:
    """Ask and send, from one thread."""

    def __init__(self) -> None:
        self.connection = connect()
        self.channel = self.connection.channel()
        self._asking = self.connection.channel()
        self._answers: dict[str, Any] = {}
        self._asking.basic_consume("amq.rabbitmq.reply-to", self._on_answer, auto_ack=True)
        self.channel.confirm_delivery()

    def _on_answer(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._answers[properties.correlation_id] = json.loads(body)

    def ask(self, request: dict[str, Any], timeout: float = 10.0) -> float:
        """Ask and wait.

        Raises:
            ValueError: the service has sent an error.
            TimeoutError: it has sent nothing, for whatever reason.
        """
        wanted, deadline = uuid.uuid4().hex, time.monotonic() + timeout
        reply = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=wanted)
        self._asking.basic_publish("", "compared_price", json.dumps(request).encode(), reply)
        while wanted not in self._answers:
            if time.monotonic() > deadline:
                raise TimeoutError("no answer")
            self.connection.process_data_events(time_limit=0.1)
        answer = self._answers.pop(wanted)
        if "error" in answer:
            raise ValueError(answer["error"])
        return float(answer["price"])


def main() -> None:
    """Start the service, and be its client."""
    ready = threading.Event()
    threading.Thread(target=serve, args=(ready,), daemon=True).start()
    ready.wait(10)
    client = Client()
    print("price", client.ask({"name": "tea", "count": 2}))
    try:
        client.ask({"name": "coffee", "count": 1})
    except ValueError as error:
        print("error", error)
    for number in (1, 2):
        body = json.dumps({"number": number}).encode()
        client.channel.basic_publish("", "compared_jobs", body, mandatory=True)
    client.channel.basic_publish("compared_news", "", json.dumps({"headline": "open"}).encode())
    for _, _, body in client.channel.consume("compared_jobs.dead", auto_ack=True):
        print(f"job {json.loads(body)['number']} is dead")
        break
    client.connection.close()


if __name__ == "__main__":
    main()
