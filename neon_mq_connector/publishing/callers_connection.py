"""Send a message on a pika connection that the caller holds, confirmed as on our own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.control.connection import hang_up, perform_on
from neon_mq_connector.control.probe import open_blocking, within
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import PublishTimeoutError, TopologyError, UnroutableError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.topology import (
    NOT_FOUND,
    BrokerFacts,
    DeclareQueue,
    QueueStatus,
    Refusal,
    Step,
    drive_steps,
)

#: How long to wait for a broker where nothing says so, in seconds: the default of the setting
#: ``publish_timeout``.
_PUBLISH_TIMEOUT = 30.0
#: The least time to close a connection, in seconds.
_LEAST_CLOSE_TIME = 0.5

#: The attribute of a connection that has the thread which this library made it for, and how long a
#: message on it may take, in seconds.
_OWNER = "_neon_mq_owner"


def remember_owner(connection: pika.BlockingConnection, publish_timeout: float) -> None:
    """Note that a connection was made for the calling thread, and how long messages may take."""
    setattr(connection, _OWNER, (threading.get_ident(), publish_timeout))


def emit(connection: Any, destination: Destination, encoded: EncodedMessage) -> None:
    """Send on a connection that the caller holds.

    A pika connection belongs to one thread, and does not tell to which. So only a connection that
    was made by this library for the calling thread is used itself; with any other its parameters
    are used, for a connection of the moment.

    Args:
        connection: a pika `BlockingConnection` or `SelectConnection`, or the ``connection`` of a
            consumer thread or of a callback's channel.
        destination: where the message goes; what is missing there is declared.
        encoded: the message.

    Raises:
        pika.exceptions.ConnectionWrongStateError: the connection is closed.
        UnroutableError: there is no queue for it.
        PublishTimeoutError: it was not confirmed in time; the caller's connection is closed then.
        TopologyError: the broker refused a declare.
    """
    if not connection.is_open:
        raise pika_errors.ConnectionWrongStateError(
            f"{destination}: a message needs an open connection; this one is closed"
        )
    if isinstance(connection, (pika.BlockingConnection, pika.SelectConnection)):
        owner, timeout = getattr(connection, _OWNER, (0, _PUBLISH_TIMEOUT))
        if owner == threading.get_ident():
            deadline = time.monotonic() + timeout
            with _until(connection, deadline, destination):
                _emit_blocking(connection, destination, encoded, deadline)
        else:
            emit_to([_parameters_of(connection)], destination, encoded, timeout=timeout)
    else:
        channel = connection.channel()
        channel.confirm_delivery()
        _emit(
            destination,
            publish=lambda: _publish(channel, destination, encoded),
            declare=lambda: _declare(destination, partial(_on_new_channel, connection)),
        )


def emit_to(
    parameters: Sequence[pika.connection.Parameters],
    destination: Destination,
    encoded: EncodedMessage,
    *,
    timeout: float,
) -> None:
    """Send on a connection of the moment.

    Args:
        parameters: one entry per server.
        destination: where the message goes; what is missing there is declared.
        encoded: the message.
        timeout: how long all of it may take, in seconds.

    Raises:
        pika.exceptions.AMQPConnectionError: no server answers, or it refused.
        Exception: as `emit`.
    """
    deadline = time.monotonic() + timeout
    with _moment(parameters, deadline, destination) as connection:
        _emit_blocking(connection, destination, encoded, deadline)


def _emit_blocking(
    connection: pika.BlockingConnection,
    destination: Destination,
    encoded: EncodedMessage,
    deadline: float,
) -> None:
    def publish() -> None:
        channel = connection.channel()
        try:
            channel.confirm_delivery()
            _publish(channel, destination, encoded)
        finally:
            if channel.is_open and time_left(deadline):  # or else the connection is ended
                channel.close()

    _emit(destination, publish=publish, declare=lambda: _drive(connection, destination, deadline))


def _emit(
    destination: Destination, *, publish: Callable[[], None], declare: Callable[[], object]
) -> None:
    """Publish to a destination; a queue that is missing is declared, an exchange always."""
    if destination.exchange:
        declare()
    try:
        try:
            publish()
        except pika_errors.UnroutableError:
            if not destination.queue:
                raise
            declare()
            publish()
    except pika_errors.UnroutableError as error:
        raise UnroutableError(
            f"no queue takes a message for {destination}", may_have_arrived=False
        ) from error


def _publish(channel: Any, destination: Destination, encoded: EncodedMessage) -> None:
    channel.basic_publish(
        destination.exchange,
        destination.queue,
        encoded.body,
        encoded.properties,
        mandatory=destination.mandatory,
    )


def _drive(connection: pika.BlockingConnection, destination: Destination, deadline: float) -> None:
    """Declare on the caller's connection, but for what may cost the caller that connection."""

    def perform(step: Step) -> QueueStatus | None:
        if not isinstance(step, DeclareQueue) or step.passive or not step.queue.transient:
            return _on_new_channel(connection, step)
        try:
            return _on_new_channel(connection, DeclareQueue(step.queue, passive=True))
        except Refusal as refusal:
            if refusal.code != NOT_FOUND:
                raise
        # a broker that refuses transient queues closes the connection that asked for one
        with _moment([_parameters_of(connection)], deadline, destination) as own:
            return _on_new_channel(own, step)

    _declare(destination, perform)


def _declare(destination: Destination, perform: Callable[[Step], QueueStatus | None]) -> None:
    try:
        drive_steps(destination.declare(BrokerFacts()), perform)
    except Refusal as refusal:
        raise TopologyError(f"the broker refused: {refusal}") from refusal


@contextlib.contextmanager
def _moment(
    parameters: Sequence[pika.connection.Parameters], deadline: float, destination: Destination
) -> Iterator[pika.BlockingConnection]:
    """Open a connection for a moment; the broker may close it before we do."""
    connection = open_blocking([within(time_left(deadline), each) for each in parameters])
    try:
        with _until(connection, deadline, destination):
            yield connection
    finally:
        if connection.is_open:
            close_by = max(deadline, time.monotonic() + _LEAST_CLOSE_TIME)
            lost = contextlib.suppress(pika_errors.AMQPError, PublishTimeoutError)
            with lost, _until(connection, close_by, destination):
                connection.close()


@contextlib.contextmanager
def _until(
    connection: pika.BlockingConnection, deadline: float, destination: Destination
) -> Iterator[None]:
    """End a connection when a block, all of whose waits are pika's, takes too long.

    pika's blocking connection has no time-outs of its own. But it serves the timers of its loop
    while it waits; there is no public way to that loop.
    """

    def expire() -> None:
        hang_up(connection)
        raise PublishTimeoutError(
            f"a message for {destination}: the broker did not confirm it in time; if there is an "
            "alarm, its log says so. The connection is closed",
            may_have_arrived=True,
        )

    ioloop = connection._impl.ioloop
    timer = ioloop.call_later(time_left(deadline), expire)
    try:
        yield
    finally:
        ioloop.remove_timeout(timer)


def _on_new_channel(connection: Any, step: Step) -> QueueStatus | None:
    channel = connection.channel()
    status = perform_on(channel, step)
    channel.close()
    return status


def _parameters_of(
    connection: pika.BlockingConnection | pika.SelectConnection,
) -> pika.connection.Parameters:
    if isinstance(connection, pika.SelectConnection):
        return connection.params
    # a blocking connection keeps them where only its implementation is
    return connection._impl.params
