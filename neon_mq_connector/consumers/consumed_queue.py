"""Declare the queue of a consumer, and delete it where it is the consumer's alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pika.exceptions as pika_errors

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, TopologyError
from neon_mq_connector.link import LinkChannel, Waiter
from neon_mq_connector.topology import (
    RESOURCE_LOCKED,
    Bind,
    BrokerFacts,
    DeclareQueue,
    QueueStatus,
    Refusal,
    Step,
    drive_steps,
)
from neon_mq_connector.topology import attach as attach_steps


def detach(
    registration: Registration, connections: Connections, session: Session, deadline: float
) -> None:
    """Close the channel of a session, and delete the queue if it is the consumer's alone.

    Args:
        registration: what was consumed.
        connections: how to reach the broker.
        session: the session to end.
        deadline: until when to wait for the broker, on the monotonic clock.

    Raises:
        MQError: the broker did not answer, or there is no connection; the queue, if it was to be
            deleted, expires by itself.
    """
    session.close(max(0.1, time_left(deadline)))
    if registration.delete_on_stop and not registration.queue.exclusive:
        try:
            connections.control.call(
                f"deleting queue {session.queue!r}",
                lambda channel: channel.queue_delete(session.queue),
                timeout=max(0.1, time_left(deadline)),
            )
        except pika_errors.AMQPError as error:
            raise TopologyError(f"queue {session.queue!r} is not deleted: {error}") from error


def declare(
    registration: Registration,
    connections: Connections,
    channel: LinkChannel,
    known_as: str,
    reset: bool,
    new_waiter: Callable[[], Waiter[Any]],
) -> QueueStatus:
    """Declare a queue, and the exchange that it is bound to.

    A durable queue is declared on the channel that is to consume. For one whose node is down
    RabbitMQ (4.0) answers after 67 s and reads nothing else from that channel meanwhile: on the
    control connection all other queues would wait. A transient one may be refused with the end of
    the connection, and is declared on the control connection.

    Args:
        registration: the queue, the exchange and the bindings.
        connections: how to reach the broker.
        channel: the channel that is to consume. It is shut if a durable queue was refused on it and
            is used as it is.
        known_as: the name that the broker has chosen for the queue before.
        reset: whether the registration's resets are still to be done.
        new_waiter: makes the waiter of each step, which a stop ends.

    Raises:
        MQError: the broker refused, or did not answer.
    """
    queue = registration.queue
    what = f"declaring queue {queue.name or known_as!r}"
    control, timeout = connections.control, connections.policy.operation_timeout

    def steps(facts: BrokerFacts) -> Generator[Step, Any, QueueStatus]:
        return attach_steps(
            queue,
            registration.exchange,
            registration.routing_keys,
            facts,
            queue_reset=reset and registration.queue_reset,
            exchange_reset=reset and registration.exchange_reset,
            # an exclusive queue is gone with the connection that had it
            known_as="" if queue.name or queue.exclusive else known_as,
        )

    if queue.transient:
        declared: QueueStatus = control.perform(what, steps, timeout=timeout, waiter=new_waiter())
        return declared

    def run(step: Step) -> Any:
        if channel.is_open and isinstance(step, (DeclareQueue, Bind)):
            return _perform(channel, step, timeout, new_waiter())
        return control.perform_step(step, timeout=timeout, waiter=new_waiter())

    try:
        return drive_steps(steps(control.facts), run)
    except Refusal as refusal:
        hint = (
            " (another connection holds it; if that was this service's own lost connection, the "
            "broker lets go of it soon)"
            if refusal.code == RESOURCE_LOCKED
            else ""
        )
        raise TopologyError(f"{what}: the broker refused: {refusal}{hint}") from refusal


def _perform(
    channel: LinkChannel, step: DeclareQueue | Bind, timeout: float, waiter: Waiter[Any]
) -> Any:
    try:
        if isinstance(step, Bind):
            return channel.bind_queue(step.binding, timeout=timeout, waiter=waiter)
        passive = step.passive
        return channel.declare_queue(step.queue, passive=passive, timeout=timeout, waiter=waiter)
    except MQError as error:
        cause = error.__cause__
        if isinstance(cause, pika_errors.ChannelClosedByBroker):
            raise Refusal(cause.reply_code, cause.reply_text) from error
        raise
