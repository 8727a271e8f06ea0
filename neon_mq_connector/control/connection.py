"""The thread behind the control connection, and the pika connection that it alone owns."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import pika
import pika.exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.control.probe import connect
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.link.steps import call_of, status_of
from neon_mq_connector.link.translate import loss_error
from neon_mq_connector.link.waiter import Answer, Waiter
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.quiet import quiet_pika
from neon_mq_connector.topology import (
    CONNECTION_FORCED,
    BrokerFacts,
    QueueStatus,
    Refusal,
    Step,
    drive_steps,
)

LOG = logging.getLogger("neon_mq_connector.control")

T = TypeVar("T")

#: How long the connection is kept without work, in seconds.
IDLE_TIMEOUT = 30.0
_PUMP_INTERVAL = 1.0
#: How long the close of an idle connection may take, in seconds, before it is given up.
_CLOSE_TIMEOUT = 3.0


@dataclass(frozen=True)
class Job:
    """A job of the thread.

    Attributes:
        operation: called with the connection, perhaps twice, so it must be idempotent. It must wait
            for nothing but the broker, and never for another job.
        answer: gets the result or the exception, on the thread.
        deadline: when it should have ended, on the monotonic clock, in seconds.
    """

    operation: Callable[[ControlConnection], Any]
    answer: Answer[Any]
    deadline: float


class ControlConnection:
    """Run jobs one after another on a `BlockingConnection`, opened for the first of them.

    Everything is owned by the thread but `jobs` (a queue); `current`, `busy_since`, `is_abandoned`
    and `_connection` are each written by one thread and read by any.

    Args:
        name: the name of the thread.
        parameters: one entry per server, tried in random order.
        facts: what is known of the broker.
        jobs: the jobs to run; None ends the thread.

    Attributes:
        current: the job that runs; None while the thread waits for one.
        is_abandoned: whether the thread ends after that.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[pika.ConnectionParameters],
        facts: BrokerFacts,
        jobs: SimpleQueue[Job | None],
    ) -> None:
        self.name = name
        self.facts = facts
        self.current: Job | None = None
        self.busy_since: float | None = None
        self.is_abandoned = False
        self.keep_open = False
        self._jobs = jobs
        self._parameters = tuple(parameters)
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def abandon(self) -> None:
        """End the thread after its current job, for which nothing waits any more."""
        self.is_abandoned = True
        self.abort()

    def abort(self) -> None:
        """End the connection without the broker, so that what waits for it fails; any thread.

        pika finds the end of the stream and closes its socket.
        """
        connection = self._connection
        sock = None if connection is None else _socket_of(connection)
        if sock is not None:
            with contextlib.suppress(OSError):  # it has ended
                # `SSLSocket.shutdown` would change what the connection's thread reads by
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # -- inside of a job -----------------------------------------------------------------------

    def channel(self) -> BlockingChannel:
        """Return an open channel; what the broker has closed is opened again."""
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connect()
        channel = self._channel
        if channel is None or not channel.is_open:
            channel = self._channel = connection.channel()
        return channel

    def drive(self, steps: Generator[Step, Any, T]) -> T:
        """Perform the steps of a topology generator; raises `Refusal` as `perform` does."""
        return drive_steps(steps, self.perform)

    def perform(self, step: Step) -> QueueStatus:
        """Perform one step; the status is that of a queue, where the step declares one.

        Raises:
            Refusal: the broker said no; its ``__cause__`` is pika's exception.
        """
        method, arguments = call_of(step)
        try:
            return status_of(getattr(self.channel(), method)(**arguments))
        except (pika_errors.ChannelClosedByBroker, pika_errors.ConnectionClosedByBroker) as error:
            if not _is_refusal(error):
                raise
            if isinstance(error, pika_errors.ConnectionClosedByBroker):
                self._connection = self._channel = None
            raise Refusal(error.reply_code, error.reply_text) from error

    # -- the thread ----------------------------------------------------------------------------

    @quiet_pika()
    def _run(self) -> None:
        last_used = time.monotonic()
        while not self.is_abandoned:
            try:
                job = self._jobs.get(timeout=_PUMP_INTERVAL if self._connection else None)
            except Empty:
                self._serve_idle(time.monotonic() - last_used)
                continue
            if job is None:
                break
            self.current, self.busy_since = job, time.monotonic()
            try:
                job.answer.resolve(self._execute(job))
            except BaseException as error:  # it is raised where the answer is waited for
                job.answer.fail(error)
                if self._connection is not None and not self._connection.is_open:
                    self._lose()
            self.current = self.busy_since = None
            last_used = time.monotonic()
        self._disconnect()
        if self.is_abandoned:
            return
        while not self._jobs.empty():
            left = self._jobs.get_nowait()
            if left is not None:
                left.answer.fail(StoppedError(f"{self.name} is closed"))

    def _execute(self, job: Job) -> Any:
        for attempt in (1, 2):
            if not time_left(job.deadline):
                raise WaitTimeoutError(f"{self.name}: the time was over before this was begun")
            fresh = self._connection is None
            try:
                return job.operation(self)
            except (pika_errors.AMQPConnectionError, pika_errors.ChannelWrongStateError) as error:
                if _is_refusal(error):
                    raise
                self._lose()
                if fresh or attempt == 2:
                    raise loss_error(error, what=self.name) from error
        raise AssertionError("unreachable")

    def _connect(self) -> pika.BlockingConnection:
        self._disconnect()
        self._connection = connection = connect(self._parameters)
        sock = _socket_of(connection)
        if sock is not None:
            forking.close_in_child(sock)
        return connection

    def _lose(self) -> None:
        self._disconnect()
        # another broker, or the same with another configuration, may answer next time
        self.facts.refuses_transient_queues = False

    def _disconnect(self) -> None:
        connection = self._connection
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except Exception as error:  # it is gone either way
                LOG.debug("%s: closing: %r", self.name, error)
        # not before: until it is closed it can be aborted
        self._connection = self._channel = None
        self.keep_open = False

    def _serve_idle(self, idle: float) -> None:
        """Let pika answer heartbeats; end the connection when it is no longer used."""
        connection = self._connection
        if connection is None:
            return
        self.current = Job(lambda _: None, Waiter(), time.monotonic() + _CLOSE_TIMEOUT)
        try:
            if idle > IDLE_TIMEOUT and not self.keep_open:
                self._disconnect()
            else:
                connection.process_data_events(0)
        except Exception as error:  # a closing connection raises more than pika's own errors
            LOG.debug("%s: lost while idle: %r", self.name, error)
            self._lose()
        self.current = None


def _socket_of(connection: pika.BlockingConnection) -> socket.socket | None:
    """Return the socket, for which pika has no public name; None where it is lost already."""
    return getattr(connection._impl._transport, "_sock", None)


def _is_refusal(error: pika_errors.AMQPError) -> bool:
    """Whether the broker refused what was asked, and has not only shut down."""
    if isinstance(error, pika_errors.ConnectionClosedByBroker):
        return error.reply_code != CONNECTION_FORCED
    return isinstance(error, pika_errors.ChannelClosedByBroker)
