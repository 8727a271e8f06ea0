"""Send a message on a connector's own connections and have it confirmed."""

from __future__ import annotations

from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import (
    PublishTimeoutError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.sending.outgoing import Outgoing
from neon_mq_connector.sending.target import Target


def send(connections: Connections, target: Target, outgoing: Outgoing, *, timeout: float) -> None:
    """Send on a connector's own connections.

    Args:
        connections: of the virtual host.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.
        timeout: how long to wait for the broker, in seconds.

    Raises:
        PublishError: the broker did not confirm the message.
        TopologyError: the broker refused a declare.
    """
    publisher = connections.publisher
    one_queue_is_meant = target.one_queue_is_meant
    message = Message(
        target.exchange,
        target.queue,
        outgoing.body,
        outgoing.properties,
        mandatory=one_queue_is_meant,
        declare_missing=not target.exchange and one_queue_is_meant,
    )
    if not target.exchange:
        publisher.publish(message, timeout=timeout)
        return
    for attempt in (1, 2):
        try:
            if not publisher.knows(target.exchange):
                connections.control.perform(
                    f"declaring exchange {target.exchange!r}",
                    lambda _facts: target.exchange_steps(),
                    timeout=timeout,
                )
                publisher.exchange_exists(target.exchange)
            _send_to_exchange(connections, target, message, timeout)
        except WaitTimeoutError as error:  # of a declare
            raise PublishTimeoutError(
                f"{message}: not sent: {error}", may_have_arrived=False
            ) from error
        except (UnroutableError, TopologyError):
            if attempt == 2:
                raise
            # the exchange may have been deleted since it was declared here
            publisher.forget_exchange(target.exchange)
        else:
            return


def _send_to_exchange(
    connections: Connections, target: Target, message: Message, timeout: float
) -> None:
    def declare() -> None:
        connections.control.perform(
            f"declaring queue {target.queue!r}", target.queue_steps, timeout=timeout
        )

    if target.queue and not target.one_queue_is_meant:
        declare()
    try:
        connections.publisher.publish(message, timeout=timeout)
    except UnroutableError:
        if not target.queue:
            raise
        declare()
        connections.publisher.publish(message, timeout=timeout)
