"""Send a message on a pika connection that the caller holds, confirmed as on our own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.control.connection import perform_on
from neon_mq_connector.errors import TopologyError, UnroutableError
from neon_mq_connector.sending.outgoing import Outgoing
from neon_mq_connector.sending.target import Target
from neon_mq_connector.threads import forking
from neon_mq_connector.topology import (
    NOT_FOUND,
    BrokerFacts,
    DeclareQueue,
    QueueStatus,
    Refusal,
    Step,
    drive_steps,
)

#: The threads of the pika connections that this library made for somebody.
_owners: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_owners_lock = threading.RLock()


def _after_fork() -> None:
    """Replace the lock: whoever held it when the process forked is not here."""
    global _owners_lock
    _owners_lock = threading.RLock()


forking.call_in_child(_after_fork)


def remember_owner(connection: pika.BlockingConnection) -> None:
    """Note that a connection was made for the thread that calls this."""
    with _owners_lock:
        _owners[connection] = threading.get_ident()


def emit(connection: Any, target: Target, outgoing: Outgoing) -> None:
    """Send on a connection that the caller holds.

    A pika connection belongs to one thread, and does not tell to which. So only a connection that
    was made by this library for the calling thread is used itself; with any other its parameters
    are used, for a connection of the moment.

    Args:
        connection: a pika `BlockingConnection` or `SelectConnection`, or the ``connection`` of a
            consumer thread or of a callback's channel.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.

    Raises:
        pika.exceptions.ConnectionWrongStateError: the connection is closed.
        UnroutableError: there is no queue for it.
        TopologyError: the broker refused a declare.
    """
    if not connection.is_open:
        raise pika_errors.ConnectionWrongStateError(
            f"a message for {target.queue or target.exchange!r} needs an open connection; "
            "this one is closed"
        )
    if isinstance(connection, (pika.BlockingConnection, pika.SelectConnection)):
        with _owners_lock:
            own = _owners.get(connection) == threading.get_ident()
        if own:
            _emit_blocking(connection, target, outgoing)
            return
        with _moment(_parameters_of(connection)) as other:
            _emit_blocking(other, target, outgoing)
    else:
        channel = connection.channel()
        channel.confirm_delivery()
        _emit_on(
            target,
            outgoing,
            open_channel=lambda: contextlib.nullcontext(channel),
            declare=lambda: _declare_on_stand_in(channel, target),
        )


def _emit_blocking(connection: pika.BlockingConnection, target: Target, outgoing: Outgoing) -> None:
    @contextlib.contextmanager
    def open_channel() -> Iterator[BlockingChannel]:
        channel = connection.channel()
        try:
            channel.confirm_delivery()
            yield channel
        finally:
            if channel.is_open:
                channel.close()

    _emit_on(
        target,
        outgoing,
        open_channel=open_channel,
        declare=lambda: _drive(connection, target.queue_steps(BrokerFacts())),
        declare_exchange=lambda: _drive(connection, target.exchange_steps()),
    )


def _emit_on(
    target: Target,
    outgoing: Outgoing,
    *,
    open_channel: Callable[[], Any],
    declare: Callable[[], object],
    declare_exchange: Callable[[], object] = lambda: None,
) -> None:
    if target.exchange:
        declare_exchange()
        if target.queue:
            declare()
    for first in (True, False):
        try:
            with open_channel() as channel:
                channel.basic_publish(
                    target.exchange,
                    target.queue,
                    outgoing.body,
                    outgoing.properties,
                    mandatory=target.one_queue_is_meant,
                )
        except pika_errors.UnroutableError as error:
            if first and target.queue:
                declare()
                continue
            raise UnroutableError(
                f"no queue takes a message for {target.queue or target.exchange!r}",
                may_have_arrived=False,
            ) from error
        return


def _declare_on_stand_in(channel: Any, target: Target) -> None:
    if target.exchange:
        channel.exchange_declare(target.exchange, exchange_type=target.exchange_type)
    if target.queue:
        channel.queue_declare(target.queue)
        if target.exchange:
            channel.queue_bind(target.queue, target.exchange, routing_key=target.queue)


def _drive(
    connection: pika.BlockingConnection, steps: Generator[Step, Any, QueueStatus]
) -> QueueStatus:
    """Perform steps on the caller's connection, but for what may cost the caller its connection."""

    def perform(step: Step) -> QueueStatus | None:
        if not isinstance(step, DeclareQueue) or step.passive or not step.queue.transient:
            return _on_new_channel(connection, step)
        try:
            return _on_new_channel(connection, DeclareQueue(step.queue, passive=True))
        except Refusal as refusal:
            if refusal.code != NOT_FOUND:
                raise
        # a broker that refuses transient queues closes the connection that asked for one
        with _moment(_parameters_of(connection)) as own:
            return _on_new_channel(own, step)

    try:
        return drive_steps(steps, perform)
    except Refusal as refusal:
        raise TopologyError(f"the broker refused: {refusal}") from refusal


@contextlib.contextmanager
def _moment(parameters: pika.connection.Parameters) -> Iterator[pika.BlockingConnection]:
    """Open a connection for a moment; the broker may close it before we do."""
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def _on_new_channel(connection: pika.BlockingConnection, step: Step) -> QueueStatus | None:
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
