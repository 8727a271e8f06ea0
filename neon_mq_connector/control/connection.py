"""The thread behind the control connection, and the pika connection that it alone owns."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from queue import Empty
from typing import Any, Protocol, TypeVar

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.errors import ConnectionLostError, MQConnectionError, MQError, StoppedError
from neon_mq_connector.link.translate import connect_error, loss_error
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.mailbox import Mailbox
from neon_mq_connector.threads.quiet import quiet_pika
from neon_mq_connector.topology import (
    CONNECTION_FORCED,
    BrokerFacts,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    QueueStatus,
    Refusal,
    Step,
    drive_steps,
)

LOG = logging.getLogger("neon_mq_connector.control")

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

#: How long the connection is kept without work, in seconds.
IDLE_TIMEOUT = 30.0
_PUMP_INTERVAL = 1.0


class Answer(Protocol[T_contra]):
    """Who is told the end of a job: a thread that waits, or a coroutine; the first time counts."""

    def resolve(self, value: T_contra) -> object: ...

    def fail(self, error: BaseException) -> object: ...


Job = tuple[Callable[["ControlConnection"], Any], Answer[Any]]


class ControlConnection:
    """Run jobs one after another on a `BlockingConnection`, opened for the first of them.

    Everything is owned by the thread but `jobs` (a queue), `current` and `busy_since`, which are
    written by one thread and read by any.

    Args:
        name: the name of the thread.
        parameters: one entry per server, tried in random order.
        facts: what is known of the broker.
    """

    def __init__(
        self, name: str, parameters: Sequence[pika.ConnectionParameters], facts: BrokerFacts
    ) -> None:
        self.name = name
        self.facts = facts
        self.jobs: Mailbox[Job | None] = Mailbox()
        self.current: Job | None = None
        self.busy_since: float | None = None
        self.keep_open = False
        self._parameters = tuple(parameters)
        self._abandoned = False
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self.thread = threading.Thread(target=self._run_quietly, name=name, daemon=True)

    def abandon(self, successor: ControlConnection, error: MQError) -> None:
        """Give all further jobs to another: this one hangs, and ends when pika finds out.

        The job that hangs fails; it may or may not have been done.
        """
        self._abandoned = True
        current = self.current
        if current is not None:
            current[1].fail(error)
        while True:
            try:
                job = self.jobs.get_nowait()
            except Empty:
                break
            successor.jobs.put(job)
        self.jobs.put(None)

    # -- inside of a job -----------------------------------------------------------------------

    def channel(self) -> BlockingChannel:
        """Give an open channel; what the broker has closed is opened anew."""
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connect()
        channel = self._channel
        if channel is None or not channel.is_open:
            channel = self._channel = connection.channel()
        return channel

    def drive(self, steps: Generator[Step, Any, T]) -> T:
        """Perform the steps of a topology generator.

        Raises:
            Refusal: the broker said no; its ``__cause__`` is pika's exception.
        """
        return drive_steps(steps, self.perform)

    def perform(self, step: Step) -> QueueStatus | None:
        """Perform one step.

        Raises:
            Refusal: the broker said no; its ``__cause__`` is pika's exception.
        """
        try:
            return perform_on(self.channel(), step)
        except Refusal as refusal:
            if isinstance(refusal.__cause__, pika_errors.ConnectionClosedByBroker):
                self._connection = self._channel = None
            raise

    # -- the thread ----------------------------------------------------------------------------

    def _run_quietly(self) -> None:
        with quiet_pika():
            self._run()

    def _run(self) -> None:
        last_used = time.monotonic()
        while True:
            try:
                job = self.jobs.get(timeout=_PUMP_INTERVAL if self._connection else None)
            except Empty:
                self._rest(time.monotonic() - last_used)
                continue
            if job is None:
                break
            self.current, self.busy_since = job, time.monotonic()
            operation, waiter = job
            try:
                waiter.resolve(self._execute(operation))
            except BaseException as error:  # it belongs to the thread that waits
                waiter.fail(error)
                if self._connection is not None and not self._connection.is_open:
                    self._lose()
            self.current = self.busy_since = None
            last_used = time.monotonic()
        self._disconnect()
        while True:
            try:
                left = self.jobs.get_nowait()
            except Empty:
                return
            if left is not None:
                left[1].fail(StoppedError(f"{self.name} is closed"))

    def _execute(self, operation: Callable[[ControlConnection], T]) -> T:
        fresh = self._connection is None
        try:
            return operation(self)
        except (pika_errors.AMQPConnectionError, pika_errors.ChannelWrongStateError) as error:
            if _is_refusal(error):
                raise
            self._lose()
            if self._abandoned or fresh:
                raise loss_error(error, what=self.name) from error
        try:
            return operation(self)
        except pika_errors.AMQPConnectionError as error:
            if _is_refusal(error):
                raise
            self._lose()
            raise loss_error(error, what=self.name) from error

    def _connect(self) -> pika.BlockingConnection:
        self._disconnect()
        if self._abandoned:
            raise ConnectionLostError(f"{self.name} was given up")
        last: MQConnectionError | None = None
        for parameters in random.sample(self._parameters, len(self._parameters)):
            try:
                self._connection = pika.BlockingConnection(parameters)
            except Exception as error:
                last = connect_error(
                    error,
                    where=f"{parameters.host}:{parameters.port}",
                    user=getattr(parameters.credentials, "username", "?"),
                    vhost=parameters.virtual_host,
                )
                last.__cause__ = error
            else:
                # pika has no public name for it, and none any more if it is lost already
                sock = getattr(self._connection._impl._transport, "_sock", None)
                if sock is not None:
                    forking.close_in_child(sock)
                return self._connection
        assert last is not None
        raise last

    def _lose(self) -> None:
        self._disconnect()
        # another broker, or the same with another configuration, may answer next time
        self.facts.refuses_transient_queues = False

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self.keep_open = False
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except Exception as error:  # it is gone either way
                LOG.debug("%s: closing: %r", self.name, error)

    def _rest(self, idle: float) -> None:
        """Let pika answer heartbeats; end the connection when it is no longer used."""
        connection = self._connection
        if connection is None:
            return
        try:
            if idle > IDLE_TIMEOUT and not self.keep_open:
                self._disconnect()
            else:
                connection.process_data_events(0)
        except Exception as error:  # a closing connection raises more than pika's own errors
            LOG.debug("%s: lost while idle: %r", self.name, error)
            self._lose()


def perform_on(channel: BlockingChannel, step: Step) -> QueueStatus | None:
    """Perform a topology step on a blocking channel, which a refusal closes.

    Args:
        channel: an open channel.
        step: what to ask the broker.

    Returns:
        The status of the queue, for a declare of one.

    Raises:
        Refusal: the broker said no; its ``__cause__`` is pika's exception.
    """
    try:
        return _ask(channel, step)
    except (pika_errors.ChannelClosedByBroker, pika_errors.ConnectionClosedByBroker) as error:
        if not _is_refusal(error):
            raise
        raise Refusal(error.reply_code, error.reply_text) from error


def _is_refusal(error: pika_errors.AMQPError) -> bool:
    """Say whether the broker said no to what was asked, and not just good-bye."""
    if isinstance(error, pika_errors.ConnectionClosedByBroker):
        return error.reply_code != CONNECTION_FORCED
    return isinstance(error, pika_errors.ChannelClosedByBroker)


def _ask(channel: BlockingChannel, step: Step) -> QueueStatus | None:
    if isinstance(step, DeclareQueue):
        queue = step.queue
        method = channel.queue_declare(
            queue.name,
            passive=step.passive,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=dict(queue.arguments) or None,
        ).method
        return QueueStatus(method.queue, method.message_count, method.consumer_count)
    if isinstance(step, DeclareExchange):
        exchange = step.exchange
        channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.type,
            passive=step.passive,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=dict(exchange.arguments) or None,
        )
    elif isinstance(step, DeleteExchange):
        channel.exchange_delete(step.name)
    elif isinstance(step, DeleteQueue):
        channel.queue_delete(step.name)
    else:
        binding = step.binding
        channel.queue_bind(
            binding.queue,
            binding.exchange,
            routing_key=binding.routing_key,
            arguments=dict(binding.arguments) or None,
        )
    return None
