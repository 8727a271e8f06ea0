"""The producers, services and subscribers that a soak puts under load."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neon_mq_connector import MQConnector
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import Retry
from neon_mq_connector.errors import PublishError
from tests.soak.books import CONFIRMED, REFUSED, UNSURE, Books, id_of, number_of

NEWS = "soak.news"
SUBSCRIBERS = ("subscriber-1", "subscriber-2")

#: One message in so many always fails, and one in so many fails once.
HOPELESS_EVERY = 97
UNLUCKY_EVERY = 13


@dataclass(frozen=True)
class ServicePlan:
    """A service, its queue, and how it deals with messages.

    Attributes:
        queue: the queue.
        ack: when a message is acknowledged.
        fails: whether some of its callbacks raise.
        registration: what else the registration says.
    """

    queue: str
    ack: str
    fails: bool = False
    registration: Mapping[str, Any] = field(default_factory=dict)


SERVICES = (
    ServicePlan("soak.plain", "on_success"),
    ServicePlan(
        "soak.failing",
        "on_success",
        fails=True,
        registration={
            "concurrency": 4,
            "retry": Retry(attempts=3, backoff=ExponentialBackoff(first=0.2)),
        },
    ),
    ServicePlan("soak.quorum", "manual", registration={"arguments": {"x-queue-type": "quorum"}}),
    ServicePlan("soak.receipt", "on_receipt"),
)
#: A queue that is deleted now and then; its messages are not counted, its consumer has to live.
DELETED = "soak.deleted"


class Watch:
    """When each consumer last handled something, on the monotonic clock."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def seen(self, name: str) -> None:
        """Note that a consumer has handled something now."""
        self.last[name] = time.monotonic()


class FailedOnPurposeError(Exception):
    """What callbacks raise that are meant to fail."""


def make_service(connector: MQConnector, plan: ServicePlan, books: Books, watch: Watch) -> None:
    """Register the consumer of a plan."""

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        number = number_of(properties.message_id)
        watch.seen(plan.queue)
        if plan.fails and number % HOPELESS_EVERY == 0:
            raise FailedOnPurposeError("hopeless")
        if plan.fails and number % UNLUCKY_EVERY == 0 and not books.failed_before(number):
            raise FailedOnPurposeError("unlucky")
        books.handled(number)
        if plan.ack == "manual":
            channel.basic_ack(method.delivery_tag)

    connector.register_consumer(
        plan.queue,
        connector.vhost,
        plan.queue,
        callback,
        lambda *_: None,
        ack=plan.ack,
        durable=True,
        **plan.registration,
    )


def make_uncounted(connector: MQConnector, watch: Watch) -> None:
    """Register the consumer whose queue is deleted now and then."""
    connector.register_consumer(
        DELETED,
        connector.vhost,
        DELETED,
        lambda *_: watch.seen(DELETED),
        lambda *_: None,
        ack="on_success",
        durable=True,
    )


def make_subscriber(connector: MQConnector, name: str, books: Books, watch: Watch) -> None:
    """Register a subscriber."""

    def callback(channel: Any, method: Any, properties: Any, body: Any) -> None:
        watch.seen(name)
        books.handled(number_of(properties.message_id))

    connector.register_subscriber(
        name, connector.vhost, callback, lambda *_: None, exchange=NEWS, ack="on_success"
    )


class Producer(threading.Thread):
    """Send to each place in turn, at a steady pace, until told to stop.

    Args:
        number: which producer this is.
        connector: what it sends with.
        queues: the books of the queues.
        news: the books of each subscriber.
        rate: messages a second.
    """

    def __init__(
        self,
        number: int,
        connector: MQConnector,
        queues: Mapping[str, Books],
        news: Mapping[str, Books],
        rate: float,
        numbers: threading.Lock,
    ) -> None:
        super().__init__(name=f"producer-{number}")
        self.unexpected: dict[str, int] = {}
        self._send: Any = connector.send_message
        self._queues = queues
        self._news = news
        self._pause = 1 / rate
        self._numbers = numbers
        self._over = threading.Event()

    def stop(self) -> None:
        """End after the present send."""
        self._over.set()

    def run(self) -> None:
        """Send; called by `start`."""
        places = [*self._queues, NEWS, DELETED]
        due = time.monotonic()
        count = 0
        while not self._over.is_set():
            place = places[count % len(places)]
            count += 1
            if place == DELETED:
                self._send_uncounted()
            else:
                self._send_counted(place)
            due = max(due + self._pause, time.monotonic() - 1.0)
            self._over.wait(max(0.0, due - time.monotonic()))

    def _send_counted(self, place: str) -> None:
        books = list(self._news.values()) if place == NEWS else [self._queues[place]]
        with self._numbers:  # the subscribers' books number alike
            numbers = [each.begin() for each in books]
        number = numbers[0]
        if number is None:
            self._over.set()
            return
        message = {"message_id": id_of(place, number), "padding": "x" * 200}
        where = {"exchange": NEWS, "exchange_type": "fanout"} if place == NEWS else {"queue": place}
        try:
            self._send(message, expiration=None, **where)
        except PublishError as error:
            state = UNSURE if error.may_have_arrived else REFUSED
        except Exception as error:
            name = f"{type(error).__name__}: {error}"[:200]
            self.unexpected[name] = self.unexpected.get(name, 0) + 1
            state = UNSURE
        else:
            state = CONFIRMED
        for each in books:
            each.ended(number, state)

    def _send_uncounted(self) -> None:
        with contextlib.suppress(PublishError):
            self._send({"deleted": "now and then"}, queue=DELETED, expiration=60_000)
