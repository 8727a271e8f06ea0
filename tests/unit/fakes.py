"""Stand-ins for the link, the control connection and what else would need a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from pika.spec import Basic, BasicProperties

from neon_mq_connector.consumers.session import ReceivedMessage, Session
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import ChannelEvents, Delivery, Link, RawDelivery
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.topology import BrokerFacts


def make_delivery(
    tag: int,
    body: bytes = b"body",
    properties: BasicProperties | None = None,
    *,
    redelivered: bool = False,
    exchange: str = "",
    routing_key: str = "q",
    consumer_tag: str = "tag",
) -> Delivery:
    """Make a message as a broker delivers it."""
    method = Basic.Deliver(consumer_tag, tag, redelivered, exchange, routing_key)
    return Delivery(method, properties or BasicProperties(), body)


def as_raw(delivery: Delivery) -> RawDelivery:
    """Make of a message the bytes that the link hands over."""
    method, properties, body = delivery
    return b"".join(method.encode()), b"".join(properties.encode()), body


def make_received(delivery: Delivery) -> ReceivedMessage:
    """Make a message whose callback starts, of no session."""
    return ReceivedMessage(cast(Session, None), as_raw(delivery), time.monotonic(), delivery)


@dataclass(frozen=True)
class Published:
    """What a channel was asked to publish."""

    exchange: str
    routing_key: str
    body: bytes

    def __len__(self) -> int:
        return len(self.body)


class FakeChannel:
    """A channel of a link that writes down what it is told, and reports what the test says."""

    def __init__(self, events: ChannelEvents) -> None:
        self.events = events
        self.link = FakeLink()
        self.published: list[Published] = []
        self.error: MQError | None = None
        self.closed = False

    @property
    def is_open(self) -> bool:
        return self.error is None and not self.closed

    def encode(
        self, exchange: str, routing_key: str, body: bytes, _properties: object, *, mandatory: bool
    ) -> Published:
        return Published(exchange, routing_key, body)

    def send(self, frames: Published, *, flush: bool) -> None:
        if self.error is not None:
            raise self.error
        self.published.append(frames)

    def flush(self) -> None:
        pass

    def read_until(self, done: Any, deadline: float) -> None:
        """Leave reading to the test, which makes the answers."""

    def flush_soon(self) -> None:
        pass

    def confirm(self, *, timeout: float) -> None:
        pass

    def close_soon(self) -> None:
        self.closed = True

    # -- what the broker does ------------------------------------------------------------------

    def confirms(self, tag: int, *, multiple: bool = False, nacked: bool = False) -> None:
        self.events.confirms(tag, multiple, nacked)

    def returns(self, number: int) -> None:
        """Give back the message that was published as this one, counted from 1."""
        sent = self.published[number - 1]
        method = Basic.Return(312, "NO_ROUTE", sent.exchange, sent.routing_key)
        self.events.returned(method, BasicProperties(), sent.body)

    def shut(self, error: MQError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        self.error = error
        self.events.shut(error)


@dataclass
class FakeLink:
    """A link whose channels open at once, or fail as the test says."""

    name: str = "mq-fake:/v"
    blocked_reason: str | None = None
    last_error: MQError | None = None
    generation: int = 0
    channels: list[FakeChannel] = field(default_factory=list)
    refusals: list[MQError] = field(default_factory=list)

    def open_channel(self, events: ChannelEvents, *, timeout: float, **_: Any) -> FakeChannel:
        if self.refusals:
            raise self.refusals.pop(0)
        channel = FakeChannel(events)
        self.channels.append(channel)
        return channel

    def call_later(self, _delay: float, work: Callable[[], None]) -> None:
        work()

    def submit(self, work: Callable[[], None]) -> None:
        work()

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        call(argument)

    @property
    def channel(self) -> FakeChannel:
        """The newest channel."""
        return self.channels[-1]


class FakeControl:
    """A control connection that performs whatever it is asked, at once or when the test lets it."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.refusal: BaseException | None = None

    def perform(self, what: str, steps: Any, *, timeout: float) -> None:
        self.may_answer.wait(120.0)
        if self.refusal is not None:
            raise self.refusal
        steps(BrokerFacts())


def make_publisher(link: FakeLink, control: FakeControl) -> Publisher:
    """Make a publisher that believes to have a broker."""
    return Publisher(cast(Link, link), cast(Control, control), cast(Any, link.open_channel))
