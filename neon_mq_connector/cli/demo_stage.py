"""What happens in `neon-mq demo`: a service, a subscriber and a client on one broker."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, TypeVar

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.cli.demo_view import BrokerView
from neon_mq_connector.cli.echo import EchoService, NewsSubscriber
from neon_mq_connector.cli.exits import ExitCode
from neon_mq_connector.cli.failures import CommandError
from neon_mq_connector.client import RequestClient
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.envelope import is_direct_reply_name
from neon_mq_connector.errors import MQError
from neon_mq_connector.topology import DeleteExchange, DeleteQueue, Refusal

_ANSWER_TIMEOUT = 10.0
_PATIENCE = 5.0
_POLL = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Exchanged:
    """A request and its answer.

    Attributes:
        request: what was sent.
        answer: what came back.
        ms: how long that took, in milliseconds.
    """

    request: dict[str, Any]
    answer: dict[str, Any]
    ms: float

    @property
    def is_right(self) -> bool:
        """Whether the answer is the one to this request."""
        return bool(self.answer.get("text") == str(self.request["text"]).upper())


@dataclass(frozen=True)
class Published:
    """A message that was published, and what the subscriber got.

    Attributes:
        exchange: where it was published.
        sent: the message.
        received: what came.
        ms: how long that took, in milliseconds.
    """

    exchange: str
    sent: dict[str, Any]
    received: dict[str, Any]
    ms: float


@dataclass(frozen=True)
class Left:
    """What is still there when all is stopped; there should be nothing.

    Attributes:
        queues: names of queues.
        connections: names of connections, where the broker could be asked.
        threads: names of threads.
    """

    queues: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.queues or self.connections or self.threads)


def median_ms(exchanged: list[Exchanged]) -> float:
    """Tell how long a typical request took, in milliseconds."""
    return statistics.median(each.ms for each in exchanged)


class Stage:
    """The service, the subscriber and the client; started, used and stopped by one thread.

    Args:
        connection: the broker.
        suffix: makes the names of queues and connections unlike those of others on this broker.
    """

    def __init__(self, connection: Connection, suffix: str = "") -> None:
        self.queue = f"demo_echo{suffix}"
        self.exchange = f"demo_news{suffix}"
        self._connection = connection
        self._threads_before = set(threading.enumerate())
        self._names = [f"{name}{suffix}" for name in ("demo-echo", "demo-news", "demo-client")]
        self._service = connection.connector(EchoService, self._names[0])
        self._subscriber = connection.connector(NewsSubscriber, self._names[1])
        self._client = RequestClient(connection.parameters(self._names[2]), owner=self._names[2])
        self._reply_queue = ""
        self._news_queue = ""

    def start(self) -> None:
        """Start service and subscriber.

        Raises:
            CommandError: one of them does not consume.
        """
        self._service.vhost = self._subscriber.vhost = self._connection.vhost
        self._service.listen_at(self.queue)
        self._subscriber.subscribe_to(self.exchange)
        for connector in (self._service, self._subscriber):
            connector.run(run_sync=False, run_observer=False, daemonize_consumers=True)
            if not connector.check_health():
                raise CommandError(f"{_reason(connector)}", ExitCode.FAILED)
        self._news_queue = self._subscriber.consumers["news"].queue

    def ask(self, count: int) -> list[Exchanged]:
        """Send requests one after another and wait for each answer.

        Raises:
            RequestTimeoutError: an answer did not come.
        """
        return [self._ask_once({"text": f"hello {number}"}) for number in range(1, count + 1)]

    def _ask_once(self, request: dict[str, Any]) -> Exchanged:
        began = time.perf_counter()
        answer = self._client.request(
            self.queue, request, timeout=_ANSWER_TIMEOUT, on_reply_queue=self._note_reply_queue
        )
        return Exchanged(request, answer, round((time.perf_counter() - began) * 1000, 3))

    def _note_reply_queue(self, name: str) -> None:
        self._reply_queue = name

    def publish(self) -> Published:
        """Publish a message and wait until the subscriber has it.

        Raises:
            CommandError: it did not come.
        """
        message = {"headline": "a service answered over RabbitMQ"}
        began = time.monotonic()
        self._service.send_message(message, exchange=self.exchange, exchange_type="fanout")
        try:
            came, received = self._subscriber.received.get(timeout=_PATIENCE)
        except Empty:
            raise CommandError(
                f"what was published to exchange {self.exchange!r} did not reach its subscriber "
                f"within {_PATIENCE:g} s",
                ExitCode.FAILED,
            ) from None
        return Published(self.exchange, message, received, round((came - began) * 1000, 3))

    def look(self, view: BrokerView, answered: int) -> BrokerView:
        """Ask the broker what it knows of all this, until it has heard of everything.

        Args:
            view: how to ask.
            answered: how many requests it must have heard of.
        """
        return _eventually(
            lambda: view.taken(self._queues(), self._names),
            lambda seen: seen.has_heard_of(self._queues(), self._names, {self.queue: answered}),
        )

    def _queues(self) -> list[str]:
        """The names of the queues there are; a reply queue only where the broker permits one."""
        replies = [] if is_direct_reply_name(self._reply_queue) else [self._reply_queue]
        return [name for name in (self.queue, self._news_queue, *replies) if name]

    def stop(self) -> None:
        """Stop everything, and delete what services leave on purpose: their queue and exchange."""
        self._client.close()
        self._service.stop()
        self._subscriber.stop()
        with self._connection.control() as control:
            for step in (DeleteQueue(self.queue), DeleteExchange(self.exchange)):
                # a refusal is not the end of it: `left` tells
                with suppress(MQError, Refusal):
                    control.perform_step(step, timeout=_PATIENCE)

    def left(self, view: BrokerView) -> Left:
        """Look for what is still there, until there is nothing or for a few seconds."""

        def look() -> Left:
            taken = view.taken(self._queues(), self._names)
            return Left(
                [queue.name for queue in taken.queues],
                [connection.name for connection in taken.connections],
                [
                    thread.name
                    for thread in threading.enumerate()
                    if thread not in self._threads_before and thread.name.startswith("mq-")
                ],
            )

        return _eventually(look, lambda found: not found)


def _eventually(look: Callable[[], T], is_enough: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = look()
        if is_enough(found) or time.monotonic() > deadline:
            return found
        time.sleep(_POLL)


def _reason(connector: MQConnector) -> str:
    for name, consumer in connector.consumers.items():
        if not consumer.is_consuming:
            return f"consumer {name!r} does not consume: {consumer.snapshot.reason}"
    return f"{connector!r} did not start"
