"""Exchanges, queues and bindings as data, and how to declare them on any broker.

Declaring is a generator of steps: it yields what the broker is to be asked, and is sent the answer
or thrown a `Refusal`. A driver performs the steps on the kind of connection that it has, so that
the rules are the same on all (source: RabbitMQ's "Queues" and "Deprecated features" pages):

* A broker may refuse transient non-exclusive queues (541, or 540 on some releases; it closes the
  connection). Neither its version nor its capabilities tell. So: try, and remember the refusal.
* A queue or exchange that exists with other properties (406) is used as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import pika.frame
from pika import spec

LOG = logging.getLogger("neon_mq_connector.topology")

#: By which codes brokers refuse transient queues; it depends on the release.
TRANSIENT_REFUSED = (spec.INTERNAL_ERROR, spec.NOT_IMPLEMENTED)

_LONGEST_NAME = 255

#: A subscriber's own queue outlives an outage, and a crash, by no more than this, in seconds.
SUBSCRIBER_EXPIRES = 300.0


def check_name(kind: str, name: str) -> None:
    """Check the name of a queue, exchange or virtual host, or a routing key.

    RabbitMQ removes CR and LF from the names of queues and exchanges and goes on with what is left;
    pika waits for ever for the answer to the name that it has sent.

    Raises:
        TypeError: it is no text.
        ValueError: it is no Unicode, has more than 255 bytes, or has a CR or LF in it.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of {kind} is {name!r}, which is no text")
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"the name of {kind} {name!r} is no text that can be sent") from error
    if size > _LONGEST_NAME:
        raise ValueError(
            f"the name of {kind} {name[:40]!r}... is too long: AMQP allows {_LONGEST_NAME} bytes"
        )
    if "\n" in name or "\r" in name:
        raise ValueError(
            f"the name of {kind} {name!r} has a line break in it: RabbitMQ would use another name; "
            "remove CR and LF"
        )


class Refusal(Exception):
    """The broker said no to a step.

    Attributes:
        code: the AMQP reply code.
        text: the broker's own words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Call(NamedTuple):
    """A call of a method of pika's channels that the broker answers, but for the callback."""

    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.method} {self.args[0]!r}"


class Step(Call):
    """A call whose answer is read as a `QueueStatus`."""


@dataclass(frozen=True)
class Exchange:
    """An exchange as it is to be declared."""

    name: str
    type: str = "direct"

    def __post_init__(self) -> None:
        check_name("exchange", self.name)

    def declare(self, *, passive: bool = False) -> Step:
        """Return the step that declares it, or only asks whether it is there."""
        return Step("exchange_declare", (self.name, self.type, passive))

    def delete(self) -> Step:
        """Return the step that deletes it."""
        return Step("exchange_delete", (self.name,))


@dataclass(frozen=True)
class Queue:
    """A queue as it is to be declared; for an empty name the broker chooses one."""

    name: str
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("queue", self.name)

    @property
    def transient(self) -> bool:
        """Whether a broker may refuse it for being transient and not exclusive."""
        return not self.durable and not self.exclusive

    def declare(self, *, passive: bool = False) -> Step:
        """Return the step that declares it, or only asks whether it is there."""
        flags = passive, self.durable, self.exclusive, self.auto_delete
        return Step("queue_declare", (self.name, *flags, dict(self.arguments) or None))

    def delete(self) -> Step:
        """Return the step that deletes it and its messages."""
        return Step("queue_delete", (self.name,))

    def bind(self, exchange: str, routing_key: str) -> Step:
        """Return the step that binds it to an exchange."""
        return Step("queue_bind", (self.name, exchange, routing_key))


@dataclass(frozen=True)
class QueueStatus:
    """What the broker answers to the declare of a queue.

    Attributes:
        name: the queue's name, also where the broker chose it.
        messages: how many are ready in it.
        consumers: how many consumers it has.
        adopted: whether it existed with other properties and is used as it is.
    """

    name: str
    messages: int = 0
    consumers: int = 0
    adopted: bool = False

    @classmethod
    def of(cls, answer: pika.frame.Method[Any]) -> QueueStatus:
        """Read pika's answer; only that to the declare of a queue says something of it."""
        method = answer.method
        if isinstance(method, spec.Queue.DeclareOk):
            return cls(method.queue, method.message_count, method.consumer_count)
        return cls("")


@dataclass
class BrokerFacts:
    """What a connection has learned about its broker; forgotten when it is opened anew.

    Owned by the thread of the connection.
    """

    refuses_transient_queues: bool = False


Steps = Generator[Step, Any, QueueStatus]
T = TypeVar("T")


def drive_steps(steps: Generator[Step, Any, T], perform: Callable[[Step], Any]) -> T:
    """Perform the steps of a generator, and return its value.

    A `Refusal` that performing a step raises is thrown into the generator, which may go on with
    another step.
    """
    try:
        step = next(steps)
        while True:
            try:
                answer = perform(step)
            except Refusal as refusal:
                step = steps.throw(refusal)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


def declare_queue(queue: Queue, facts: BrokerFacts) -> Steps:
    """Declare a queue as this broker permits it; a refusal is noted in the facts."""
    durable = replace(queue, durable=True)
    wanted = durable if queue.transient and facts.refuses_transient_queues else queue
    try:
        try:
            status: QueueStatus = yield wanted.declare()
        except Refusal as refusal:
            if refusal.code not in TRANSIENT_REFUSED or not wanted.transient:
                raise
            LOG.info("the broker refuses transient queues; queue %r is made durable", queue.name)
            facts.refuses_transient_queues = True
            status = yield durable.declare()
    except Refusal as refusal:
        if queue.exclusive:
            raise
        status = yield from _adopt(queue.declare(passive=True), queue.name, refusal)
        return replace(status, adopted=True)
    return status


def declare_exchange(exchange: Exchange) -> Steps:
    """Declare an exchange, or use the one that exists with other properties, even another type."""
    try:
        yield exchange.declare()
    except Refusal as refusal:
        yield from _adopt(exchange.declare(passive=True), exchange.name, refusal)
    return QueueStatus("")


def _adopt(look_up: Step, name: str, refusal: Refusal) -> Steps:
    """Use what exists with other properties, or may not be declared by this user."""
    if refusal.code not in (spec.PRECONDITION_FAILED, spec.ACCESS_REFUSED):
        raise refusal
    try:
        status: QueueStatus = yield look_up
    except Refusal:
        raise refusal from refusal.__cause__
    if refusal.code == spec.ACCESS_REFUSED:
        LOG.debug("%r exists and may not be declared by us: %s", name, refusal)
    else:
        LOG.info("%r exists with other properties and is used as it is: %s", name, refusal)
    return status


def _declare_again(queue: Queue, known_as: str, facts: BrokerFacts) -> Steps:
    """Look up the queue that the broker has named before; declare another if it is gone."""
    if known_as:
        try:
            status: QueueStatus = yield Queue(known_as).declare(passive=True)
        except Refusal as refusal:
            if refusal.code != spec.NOT_FOUND:
                raise
        else:
            return status
    return (yield from declare_queue(queue, facts))


def attach(
    queue: Queue,
    exchange: Exchange | None,
    routing_keys: tuple[str, ...],
    facts: BrokerFacts,
    *,
    queue_reset: bool = False,
    exchange_reset: bool = False,
    known_as: str = "",
) -> Steps:
    """Declare and bind everything that a consumer needs.

    Args:
        queue: the queue to consume from.
        exchange: what it is bound to; None for the default exchange.
        routing_keys: one binding each; empty means the queue's own name.
        facts: what is known of the broker.
        queue_reset: delete the queue first.
        exchange_reset: delete the exchange first.
        known_as: the name that the broker chose for the queue before, if it did.

    Returns:
        What the queue is now (the value of the generator).
    """
    if exchange is not None:
        if exchange_reset:
            yield exchange.delete()
        yield from declare_exchange(exchange)
    if queue_reset and queue.name:
        yield queue.delete()
    status = yield from _declare_again(queue, known_as, facts)
    if exchange is not None:
        for key in routing_keys or (status.name,):
            yield Queue(status.name).bind(exchange.name, key)
    return status
