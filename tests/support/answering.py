"""A service that answers so many requests that its consumer moves, and who asks them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.support.polling import eventually

#: More than enough for a move.
MANY = 400


class Squares:
    """Callbacks in the style of earlier releases: each answers, acknowledges, and keeps count.

    Attributes:
        handled: the numbers that were asked for, each time that they were.
        redelivered: how many requests came again.
        kept: tags of requests that are answered and not acknowledged, with their channels.
        keeps: says of which numbers these are.
    """

    def __init__(self, keeps: Callable[[int], bool] = lambda _n: False) -> None:
        self.handled: list[int] = []
        self.redelivered = 0
        self.kept: list[tuple[Any, int]] = []
        self.keeps = keeps
        self._lock = threading.Lock()

    async def as_coroutine(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Do the same in a coroutine, where nothing need be awaited."""
        self(channel, method, properties, body)

    def __call__(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        with self._lock:
            self.handled.append(request["n"])
            self.redelivered += method.redelivered
        channel.queue_declare(queue=request["routing_key"])
        answer = {"square": request["n"] ** 2, "message_id": request["message_id"]}
        channel.basic_publish(
            exchange="",
            routing_key=request["routing_key"],
            body=dict_to_b64(answer | {"padding": "x" * request.get("size", 0)}),
            properties=BasicProperties(expiration="120000"),
        )
        if self.keeps(request["n"]):
            self.kept.append((channel, method.delivery_tag))
        else:
            channel.basic_ack(delivery_tag=method.delivery_tag)


def ask(
    client: RequestClient,
    queue: str,
    numbers: Iterable[int],
    *,
    in_flight: int = 48,
    timeout: float = 120.0,
    **more: Any,
) -> int:
    """Ask for squares, many at a time, check each answer, and return how many there were."""
    under_way: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    answered = 0

    def take() -> None:
        nonlocal answered
        n, future = under_way.popleft()
        assert future.result(timeout + 1)["square"] == n**2
        answered += 1

    for n in numbers:
        under_way.append((n, client.submit(RequestSpec(queue, {"n": n, **more}, timeout=timeout))))
        if len(under_way) >= in_flight:
            take()
    while under_way:
        take()
    return answered


def has_moved(connector: MQConnector, name: str) -> bool:
    """Whether answers leave on the channel on which a consumer's requests come."""
    session = connector.consumers[name].consumer.session
    return session is not None and session.is_open and session.sends_answers


def ask_until_it_has_moved(
    client: RequestClient, connector: MQConnector, name: str, queue: str
) -> int:
    """Ask much, until the consumer has moved, and return how many requests it took."""
    asked = 0

    def moves() -> bool:
        nonlocal asked
        asked += ask(client, queue, range(MANY))
        return has_moved(connector, name)

    eventually(moves, what="the consumer has moved")
    return asked
