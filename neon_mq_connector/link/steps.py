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
    kwargs: Mapping[str, Any]


def call_of(step: Step) -> Call:
    """Return the call that performs a step."""
    method, arguments = _method_of(step)
    return Call(method, (), arguments)


def _method_of(step: Step) -> tuple[str, dict[str, Any]]:
    if isinstance(step, DeclareQueue):
        queue = step.queue
        return "queue_declare", {
            "queue": queue.name,
            "passive": step.passive,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "auto_delete": queue.auto_delete,
            "arguments": dict(queue.arguments) or None,
        }
    if isinstance(step, DeclareExchange):
        exchange = step.exchange
        return "exchange_declare", {
            "exchange": exchange.name,
            "exchange_type": exchange.type,
            "passive": step.passive,
        }
    if isinstance(step, DeleteExchange):
        return "exchange_delete", {"exchange": step.name}
    if isinstance(step, DeleteQueue):
        return "queue_delete", {"queue": step.name}
    return "queue_bind", {
        "queue": step.queue,
        "exchange": step.exchange,
        "routing_key": step.routing_key,
    }


def status_of(answer: pika.frame.Method[Any]) -> QueueStatus:
    """Return what the broker says of a queue; after other steps than its declare, nothing."""
    method = answer.method
    if isinstance(method, spec.Queue.DeclareOk):
        return QueueStatus(method.queue, method.message_count, method.consumer_count)
    return QueueStatus("")
