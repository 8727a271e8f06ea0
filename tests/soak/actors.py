"""What a soak puts under load: a queue with its consumer, what is sent to it, and the books."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.soak.books import Books
from tests.support.engines import ENGINES, as_coroutine_function

#: One message in so many always fails, and one in so many fails once.
HOPELESS_EVERY = 97
UNLUCKY_EVERY = 13

QUICK_RETRY = Retry(attempts=3, backoff=ExponentialBackoff(first=0.2))


class FailedOnPurposeError(Exception):
    """What callbacks raise that are meant to fail."""


class Sender(Protocol):
    """What actors send with."""

    def send(self, message: Mapping[str, Any], **where: Any) -> None:
        """Send with the library; returns when it is confirmed."""

    def publish(self, queue: str, properties: BasicProperties, **message: Any) -> None:
        """Publish to a queue with plain pika; returns when it is confirmed."""


class Actor:
    """A service with one queue that handles each message quickly; others differ in some point.

    Args:
        name: of the service and its queue.
        ack: when a message is acknowledged.
        fails: whether some callbacks raise.
        slow: how long a callback takes now and then, in seconds.
        settings: of the service.
        registration: what else the registration says.

    Attributes:
        books: of what is sent to it; set by the run.
        service: set by `start`.
        moved_at: when a callback began or ended last, on the monotonic clock.
    """

    #: What may run its callbacks; a run's seed chooses one of them.
    engines: tuple[str, ...] = tuple(ENGINES)

    books: Books
    service: MQConnector

    def __init__(
        self,
        name: str,
        ack: str = "on_success",
        *,
        fails: bool = False,
        slow: float = 0.0,
        settings: Mapping[str, Any] | None = None,
        **registration: Any,
    ) -> None:
        self.name = name
        self.moved_at = 0.0
        self.settings = dict(settings or {})
        self._ack = ack
        self._fails = fails
        self._slow = slow
        self._slow_again = 0.0
        self._registration = {"concurrency": 1, "retry": QUICK_RETRY, **registration}

    def __str__(self) -> str:
        return self.name[:40]

    # -- what it may do otherwise --------------------------------------------------------------

    def prepare(self, broker: PrivateBroker, vhost: str) -> None:
        """Make what is to be there before the service starts, as an operator does."""

    def send(self, sender: Sender, number: int) -> None:
        """Send a message; raises as the sender does."""
        sender.send({"n": number, "padding": "x" * 200}, queue=self.name)

    def work(self, message: Mapping[str, Any], tries: int, channel: Any) -> None:
        """Do what the callback is for, after so many tries."""

    def on_error(self, thread: Any, error: Any) -> None:
        """Take an error that the library reports."""

    def register(self, engine: str) -> None:
        """Register the consumers with the service."""
        self._register(self.name, engine)

    # -- what they have in common --------------------------------------------------------------

    def start(self, service: MQConnector, engine: str) -> None:
        """Register and run."""
        self.service = service
        self.register(engine)
        service.run(run_sync=False, mq_timeout=20)

    def _register(self, queue: str, engine: str, callback: Any = None) -> None:
        callback = callback or self.callback
        self.service.register_consumer(
            queue[:40],
            self.service.vhost,
            queue,
            as_coroutine_function(callback) if engine == "aio" else callback,
            self.on_error,
            ack=self._ack,
            durable=True,
            **ENGINES[engine],
            **self._registration,
        )

    def callback(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Handle a message."""
        with self.moving():
            message = b64_to_dict(body)
            number = message["n"]
            tries = self.books.tried(number)
            if self._fails and number % HOPELESS_EVERY == 0:
                raise FailedOnPurposeError("hopeless")
            if self._fails and number % UNLUCKY_EVERY == 0 and not tries:
                raise FailedOnPurposeError("unlucky")
            if self._slow and time.monotonic() >= self._slow_again:
                self._slow_again = time.monotonic() + 2 * self._slow
                time.sleep(self._slow)
            self.work(message, tries, channel)
            self.done(number)
            if self._ack == "manual":
                channel.basic_ack(method.delivery_tag)

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """Note that a callback begins, and that it ends."""
        self.moved_at = time.monotonic()
        try:
            yield
        finally:
            self.moved_at = time.monotonic()

    def done(self, number: int) -> None:
        """Note that a message was handled."""
        self.books.handled(number)

    @property
    def queues(self) -> list[str]:
        """The queues in which its messages may lie."""
        return [thread.consumer.queue for thread in self.service.consumers.values()]

    @property
    def dead_queues(self) -> list[str]:
        """The queues in which they are parked."""
        threads = self.service.consumers.values()
        names = (thread.consumer.registration.dead_queue for thread in threads)
        return [name for name in names if name and len(name.encode()) <= 255]


class Subscriber(Actor):
    """A subscriber to an exchange of its own."""

    @property
    def _exchange(self) -> str:
        return f"{self.name}.exchange"

    def prepare(self, broker: PrivateBroker, vhost: str) -> None:
        """Make the exchange durable: with it, the binding survives a restart of the broker."""
        broker.management.call(
            "PUT", "exchanges", vhost, self._exchange, body={"type": "fanout", "durable": True}
        )

    def send(self, sender: Sender, number: int) -> None:
        sender.send({"n": number}, exchange=self._exchange, exchange_type="fanout")

    def register(self, engine: str) -> None:
        self.service.register_subscriber(
            self.name,
            self.service.vhost,
            as_coroutine_function(self.callback) if engine == "aio" else self.callback,
            self.on_error,
            exchange=self._exchange,
            ack=self._ack,
            **ENGINES[engine],
            **self._registration,
        )


class Large(Actor):
    """Large messages beside small ones."""

    _LARGE_EVERY = 5

    def send(self, sender: Sender, number: int) -> None:
        length = 200_000 if number % self._LARGE_EVERY == 0 else 200
        sender.send({"n": number, "padding": "x" * length}, queue=self.name)


class Hooks(Actor):
    """The user's hooks raise, and callbacks end the thread they are in."""

    def __init__(self, name: str, **registration: Any) -> None:
        super().__init__(name, fails=True, **registration)
        self._errors = 0

    def on_error(self, thread: Any, error: Any) -> None:
        self._errors += 1
        raise (SystemExit, FailedOnPurposeError)[self._errors % 2]("in on_error")

    def work(self, message: Mapping[str, Any], tries: int, channel: Any) -> None:
        if message["n"] % UNLUCKY_EVERY == 1 and not tries:
            raise SystemExit("in a callback")


class HostileHeaders(Actor):
    """Gets headers that must not decide anything; half of the messages cannot be handled."""

    def send(self, sender: Sender, number: int) -> None:
        headers = self._headers[number // 2 % len(self._headers)]
        sender.publish(self.name, BasicProperties(headers=headers, delivery_mode=2), n=number)

    @property
    def _headers(self) -> tuple[dict[str, Any], ...]:
        death = {"queue": self.name, "reason": "rejected", "exchange": "", "routing-keys": []}
        return (
            {"CC": [self.name]},
            {"BCC": [self.name], "x-delay": 1, "reply_to": self.name},
            {"x-death": [{**death, "count": -1_000_000}]},
            {"x-death": [{**death, "count": 2**62}] * 100},
            {"x-delivery-count": -5},
            {"double": float(2**63)},
            {"much": "x" * 122_000},
            {f"{n}": "x" * 100 for n in range(1_100)},
        )

    def work(self, message: Mapping[str, Any], tries: int, channel: Any) -> None:
        if message["n"] % 2:
            raise FailedOnPurposeError("hopeless")
