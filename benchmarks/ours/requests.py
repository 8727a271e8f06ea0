"""Requests: services whose callbacks answer in one way or another, and who asks them."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pika
from pydantic import BaseModel

from benchmarks.actor import PAYLOAD_BYTES, Actor, Load, Sample, Stopwatch
from benchmarks.ours.connector import make_connector
from benchmarks.plain_pika.requests import of_times
from benchmarks.site import Site
from neon_mq_connector import MQConnector, consumer, create_mq_callback
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.utils.client_utils import send_mq_request
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64

_TEXT = "x" * PAYLOAD_BYTES


class _Decorated(MQConnector):
    @create_mq_callback()
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": body["text"]}


class DecoratedService(Actor):
    """Answer each request with its own text, which a decorated callback returns.

    Args:
        site: where the broker is.
        queue: where requests come.
        ack: when a request is acknowledged; on receipt by default.
    """

    def __init__(self, site: Site, queue: str, *, ack: str | None = None) -> None:
        super().__init__(site, queue)
        name = "bench_service"
        self._connector = _Decorated(site.config(name), name)
        self._connector.register_consumer(
            "requests", site.vhost, queue, self._connector.answer, ack=ack
        )
        self._connector.run()

    def close(self) -> None:
        """Stop the service."""
        self._connector.stop()


class Text(BaseModel):
    """A request, or an answer, with a type."""

    text: str


class _Declared(MQConnector):
    queue = ""

    @consumer("{queue}")
    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"text": request["text"]}


class _Typed(MQConnector):
    queue = ""

    @consumer("{queue}")
    def answer(self, request: Text) -> Text:
        return Text(text=request.text)


class DeclaredService(Actor):
    """Answer each request with its own text, which a declared handler returns.

    Args:
        site: where the broker is.
        queue: where requests come.
        typed: whether requests and answers are pydantic models, and not dicts.
    """

    def __init__(self, site: Site, queue: str, *, typed: bool = False) -> None:
        super().__init__(site, queue)
        name = "bench_service"
        kind = _Typed if typed else _Declared
        self._connector: _Typed | _Declared = kind(site.config(name), name)
        self._connector.vhost = site.vhost
        self._connector.queue = queue
        self._connector.run()

    def close(self) -> None:
        """Stop the service."""
        self._connector.stop()


class Service(Actor):
    """Answer each request with its own text, and acknowledge it, as for earlier releases.

    Args:
        site: where the broker is.
        queue: where requests come.
        flow: another queue, whose messages are only acknowledged and counted.
    """

    def __init__(self, site: Site, queue: str, *, flow: str | None = None) -> None:
        super().__init__(site, queue)
        self._handled = 0
        self._connector = make_connector(site)
        self._connector.register_consumer(
            "requests", site.vhost, queue, self._answer, auto_ack=False
        )
        if flow is not None:
            self._connector.register_consumer(
                "flow",
                site.vhost,
                flow,
                self._take,
                auto_ack=False,
                arguments={"x-max-length": 100_000},
            )
        self._connector.run()

    def count(self) -> int:
        """Say how many messages of the other queue came."""
        return self._handled

    def close(self) -> None:
        """Stop the service."""
        self._connector.stop()

    @staticmethod
    def _answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        answer = {"text": request["text"], "message_id": request["message_id"]}
        channel.queue_declare(queue=request["routing_key"])
        channel.basic_publish(
            exchange="",
            routing_key=request["routing_key"],
            body=dict_to_b64(answer),
            properties=pika.BasicProperties(expiration="1000"),
        )
        channel.basic_ack(delivery_tag=method.delivery_tag)

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._handled += 1
        channel.basic_ack(delivery_tag=method.delivery_tag)


class Asker(Actor):
    """Ask with `send_mq_request`.

    Args:
        site: where the broker is.
        queue: where the service gets its requests.
        threads: how many ask. With one the rate is that of the median request.
    """

    def __init__(self, site: Site, queue: str, *, threads: int = 1) -> None:
        super().__init__(site, queue)
        self._threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="neon-mq-bench-")
        path = Path(self._folder.name) / "mq.json"
        path.write_text(json.dumps(site.config("mq_handler")))
        os.environ["NEON_MQ_CONFIG_PATH"] = str(path)

    def close(self) -> None:
        """Remove the configuration."""
        self._folder.cleanup()

    def round(self, load: Load) -> Sample:
        """Ask until the time is over."""
        taken: list[list[float]] = [[] for _ in range(self._threads)]
        if self._threads == 1:
            stopwatch = Stopwatch()
            self._ask(taken[0], time.perf_counter() + load.seconds)
            return stopwatch.sample(len(taken[0])) | of_times(taken[0])
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        threads = [threading.Thread(target=self._ask, args=(each, until)) for each in taken]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return stopwatch.sample(sum(map(len, taken)))

    def _ask(self, taken: list[float], until: float) -> None:
        vhost, queue = self.site.vhost, self.queue
        now = time.perf_counter()
        while now < until:
            began = now
            answer = send_mq_request(vhost, {"text": _TEXT}, queue, timeout=10)
            now = time.perf_counter()
            assert answer.get("text") == _TEXT, "a request was not answered: see the log"
            taken.append(now - began)


class FutureAsker(Actor):
    """Ask from one thread with futures.

    Args:
        site: where the broker is.
        queue: where the service gets its requests.
        in_flight: how many requests are under way.
    """

    def __init__(self, site: Site, queue: str, *, in_flight: int) -> None:
        super().__init__(site, queue)
        self._in_flight = in_flight
        self._client = RequestClient([site.parameters()], owner="bench")

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def round(self, load: Load) -> Sample:
        """Ask until the time is over."""
        submit = self._client.submit
        under_way: deque[Future[dict[str, Any]]] = deque()
        answered = 0
        stopwatch = Stopwatch()
        until = time.perf_counter() + load.seconds
        while time.perf_counter() < until:
            while len(under_way) < self._in_flight:
                under_way.append(submit(RequestSpec(self.queue, {"text": _TEXT}, timeout=10)))
            assert under_way.popleft().result(10)["text"] == _TEXT
            answered += 1
        sample = stopwatch.sample(answered)
        for each in under_way:
            each.result(10)
        return sample
