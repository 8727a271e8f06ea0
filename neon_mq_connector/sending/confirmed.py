"""Send a message on a connector's own connections and have it confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable

from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import PublishTimeoutError, WaitTimeoutError
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.sending.outgoing import Outgoing
from neon_mq_connector.sending.target import Target
from neon_mq_connector.topology import BrokerFacts, Steps


def send(connections: Connections, target: Target, outgoing: Outgoing, *, timeout: float) -> None:
    """Send on a connector's own connections.

    Args:
        connections: of the virtual host.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.
        timeout: how long all of it may take, in seconds.

    Raises:
        PublishError: the broker did not confirm the message.
        TopologyError: the broker refused a declare.
    """
    deadline = time.monotonic() + timeout
    if needs_declare(connections, target):
        declare(connections, target, deadline)
    connections.publisher.publish(message_for(target, outgoing), timeout=time_left(deadline))


def needs_declare(connections: Connections, target: Target) -> bool:
    """Return whether something has to be declared before a message is sent to a target."""
    if not target.exchange:
        return False
    return _needs_queue(target) or not connections.publisher.knows(target.exchange)


def declare(connections: Connections, target: Target, deadline: float) -> None:
    """Declare the exchange, and the queue of a fanout exchange, which no return tells of.

    Args:
        connections: of the virtual host.
        target: where messages are to go.
        deadline: until when to wait for the broker, on the monotonic clock, in seconds.

    Raises:
        TopologyError: the broker refused.
        PublishTimeoutError: it did not answer in time.
        MQConnectionError: there is no connection.
    """
    try:
        connections.control.perform(
            f"declaring exchange {target.exchange!r}",
            _declare_all(target) if _needs_queue(target) else lambda _: target.exchange_steps(),
            timeout=time_left(deadline),
        )
    except WaitTimeoutError as error:
        raise PublishTimeoutError(
            f"a message for exchange {target.exchange!r}: not sent: {error}",
            may_have_arrived=False,
        ) from error
    connections.publisher.exchange_exists(target.exchange)


def message_for(target: Target, outgoing: Outgoing) -> Message:
    """Make what a publisher takes, with what is to be declared if it comes back."""
    mandatory = target.one_queue_is_meant
    return Message(
        target.exchange,
        target.queue,
        outgoing.body,
        outgoing.properties,
        mandatory,
        mandatory and not target.exchange,
        declare_missing(target),
    )


def declare_missing(target: Target) -> Callable[[BrokerFacts], Steps] | None:
    """Return what declares the exchange, and the queue, for a message that has come back."""
    return _declare_all(target) if target.exchange else None


def _needs_queue(target: Target) -> bool:
    return bool(target.exchange and target.queue) and not target.one_queue_is_meant


def _declare_all(target: Target) -> Callable[[BrokerFacts], Steps]:
    def steps(facts: BrokerFacts) -> Steps:
        status = yield from target.exchange_steps()
        if target.queue:
            status = yield from target.queue_steps(facts)
        return status

    return steps
