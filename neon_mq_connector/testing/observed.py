"""What was published and what was parked in a virtual host, for tests to assert on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.codec import decode_body
from neon_mq_connector.consumers.registration import dead_queue_name
from neon_mq_connector.control.probe import open_blocking
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.operations.dead_letters import show
from neon_mq_connector.testing.own_vhost import OwnVhost
from neon_mq_connector.testing.polling import PATIENCE, poll

_TRACES = "neon-mq-traces"
_MOST_TRACES = 10_000


class PublishedMessage(NamedTuple):
    """A message that was published.

    Attributes:
        body: the message; the bytes where they are none in a known format.
        exchange: where it was published to; empty for the default exchange.
        routing_key: with which routing key.
        queues: the names of the queues that it was routed to.
    """

    body: Any
    exchange: str
    routing_key: str
    queues: tuple[str, ...]


class ParkedMessage(NamedTuple):
    """A message that was parked because its callback failed.

    Attributes:
        body: the message; the bytes where they are none in a known format.
        error: class and text of the exception.
        attempts: how often it was tried.
        headers: all headers of the parked message.
    """

    body: Any
    error: str
    attempts: int
    headers: dict[str, Any]


class PublishedMessages:
    """Return what was published; the fixture `mq_published`.

    Args:
        own: the virtual host, which is traced.
    """

    def __init__(self, own: OwnVhost) -> None:
        self._own = own
        self._seen: list[PublishedMessage] = []
        with _open_channel(own) as channel:
            arguments = {"x-max-length": _MOST_TRACES}
            channel.queue_declare(_TRACES, durable=True, arguments=arguments)
            channel.queue_bind(_TRACES, "amq.rabbitmq.trace", "publish.#")

    def __call__(
        self,
        queue: str | None = None,
        *,
        exchange: str | None = None,
        count: int = 1,
        timeout: float = PATIENCE,
    ) -> list[PublishedMessage]:
        """Wait until messages were published, and return all that were since the test began.

        A message that was sent again, with the same id, counts once.

        Args:
            queue: only those that were routed to this queue.
            exchange: only those that were published to this exchange.
            count: for how many to wait; 0 to return at once.
            timeout: how long to wait, in seconds. When it is over, what there is is returned.
        """

        def look() -> list[PublishedMessage]:
            for message in _take_traces(channel):
                self._note(message)
            return [
                each
                for each in self._seen
                if (queue is None or queue in each.queues) and exchange in (None, each.exchange)
            ]

        with _open_channel(self._own) as channel:
            return poll(look, lambda found: len(found) >= count, timeout)

    def _note(self, message: PublishedMessage) -> None:
        # A message whose queue is missing is returned; a connector makes the queue and sends it
        # again. The trace has it twice.
        has_id = isinstance(message.body, dict) and "message_id" in message.body
        if not (has_id and message in self._seen):
            self._seen.append(message)


class ParkedMessages:
    """Return what was parked; the fixture `mq_parked`.

    Args:
        own: the virtual host.
    """

    def __init__(self, own: OwnVhost) -> None:
        self._own = own

    def __call__(
        self, queue: str, *, count: int = 1, timeout: float = PATIENCE
    ) -> list[ParkedMessage]:
        """Wait until messages of a queue were parked, and return all of them; they stay parked.

        Args:
            queue: the name of the queue that they were consumed from; of a subscriber,
                ``<service>.<exchange>``.
            count: for how many to wait; 0 to return at once.
            timeout: how long to wait, in seconds. When it is over, what there is is returned.
        """
        dead_queue = dead_queue_name(queue)

        def ready() -> int:
            rows = self._own.broker.list_queues(self._own.name)
            return sum(row.get("messages_ready", 0) for row in rows if row["name"] == dead_queue)

        if not poll(ready, lambda found: found >= count, timeout):
            return []
        return [
            ParkedMessage(
                _decoded(letter.raw),
                letter.error or "",
                letter.attempts or 0,
                dict(letter.properties.headers or {}),
            )
            for letter in show([self._own.parameters()], dead_queue)
        ]


@contextlib.contextmanager
def _open_channel(own: OwnVhost) -> Iterator[BlockingChannel]:
    connection = open_blocking([own.parameters()])
    try:
        yield connection.channel()
    finally:
        connection.close()


def _take_traces(channel: BlockingChannel) -> Iterator[PublishedMessage]:
    while True:
        method, properties, body = channel.basic_get(_TRACES, auto_ack=True)
        if method is None or properties is None or body is None:
            return
        headers = properties.headers or {}
        yield PublishedMessage(
            _decoded(body),
            headers["exchange_name"],
            headers["routing_keys"][0],
            tuple(headers.get("routed_queues", ())),
        )


def _decoded(body: bytes) -> Any:
    try:
        return decode_body(body)[0]
    except DecodeError:
        return body
