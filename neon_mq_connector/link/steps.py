"""The steps of a topology generator as calls of pika's channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pika.frame
from pika import spec

from neon_mq_connector.topology import (
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    QueueStatus,
    Step,
)


class Call(NamedTuple):
    """A call of a channel's method that the broker answers, but for the callback."""

    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = {}


def call_of(step: Step) -> Call:
    """Return the call that performs a step."""
    if isinstance(step, DeclareQueue):
        queue = step.queue
        flags = step.passive, queue.durable, queue.exclusive, queue.auto_delete
        return Call("queue_declare", (queue.name, *flags, dict(queue.arguments) or None))
    if isinstance(step, DeclareExchange):
        return Call("exchange_declare", (step.exchange.name, step.exchange.type, step.passive))
    if isinstance(step, DeleteExchange):
        return Call("exchange_delete", (step.name,))
    if isinstance(step, DeleteQueue):
        return Call("queue_delete", (step.name,))
    return Call("queue_bind", (step.queue, step.exchange, step.routing_key))


def status_of(answer: pika.frame.Method[Any]) -> QueueStatus:
    """Return what the broker says of a queue; after other steps than its declare, nothing."""
    method = answer.method
    if isinstance(method, spec.Queue.DeclareOk):
        return QueueStatus(method.queue, method.message_count, method.consumer_count)
    return QueueStatus("")
