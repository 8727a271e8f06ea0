"""The control connection: everything that the broker may refuse.

A refused declare closes a channel, or the whole connection. So these run on a pika
`BlockingConnection` of their own, on which nothing else lives, owned by one thread. Opening it
anew costs a few milliseconds; it is closed when it has been idle for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import pika
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.control.connection import Answer, ControlConnection
from neon_mq_connector.errors import ConnectionLostError, StoppedError, TopologyError
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.topology import BrokerFacts, QueueStatus, Refusal, Step

LOG = logging.getLogger("neon_mq_connector.control")

T = TypeVar("T")


class Control:
    """Run blocking operations for any thread, one at a time, on a connection of their own.

    `_lock` owns the present connection and the closed flag.

    Args:
        name: the name of the thread.
        parameters: one entry per server, tried in random order.
    """

    def __init__(self, name: str, parameters: Sequence[pika.ConnectionParameters]) -> None:
        self.name = name
        self.facts = BrokerFacts()
        self._parameters = tuple(parameters)
        # reentrant: a signal handler may interrupt its holder to stop everything
        self._lock = threading.RLock()
        self._connection: ControlConnection | None = None
        self._closed = False

    @property
    def busy_for(self) -> float:
        """For how long the present job has been running, in seconds; 0 when there is none."""
        connection = self._connection
        since = None if connection is None else connection.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def call(
        self,
        what: str,
        operation: Callable[[BlockingChannel], T],
        *,
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Run an operation on a channel that is open and wait for what it returns.

        Args:
            what: what is done, for the message of an error.
            operation: called on the control thread with a pika `BlockingChannel`. It may be called
                twice when the connection turns out to be dead, so it must be idempotent.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            What the operation returned.

        Raises:
            pika.exceptions.AMQPError: the broker refused; the next call gets a new channel.
            MQConnectionError: there is no connection.
            WaitTimeoutError: no answer in time; the operation may still be performed.
            StoppedError: the control connection was closed.
        """
        waiter = waiter or Waiter()
        self.submit(lambda connection: operation(connection.channel()), waiter)
        return waiter.wait(timeout, f"{self.name}: {what}")

    def perform(
        self,
        what: str,
        steps: Callable[[BrokerFacts], Generator[Step, Any, T]],
        *,
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Perform the steps of a topology generator.

        Args:
            what: what is declared, for the message of an error.
            steps: makes the generator from what is known of the broker.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The value of the generator.

        Raises:
            TopologyError: the broker refused; the message has its words, and its ``__cause__`` is
                a `Refusal` whose own cause is pika's exception.
            MQConnectionError, WaitTimeoutError, StoppedError: as for `call`.
        """
        waiter = waiter or Waiter()
        try:
            self.submit(lambda connection: connection.drive(steps(connection.facts)), waiter)
            return waiter.wait(timeout, f"{self.name}: {what}")
        except Refusal as refusal:
            raise TopologyError(f"{what}: the broker refused: {refusal}") from refusal

    def perform_step(
        self, step: Step, *, timeout: float, waiter: Waiter[QueueStatus | None] | None = None
    ) -> QueueStatus | None:
        """Perform one step of a generator that somebody else drives.

        Raises:
            Refusal: the broker refused.
            MQConnectionError, WaitTimeoutError, StoppedError: as for `call`.
        """
        waiter = waiter or Waiter()
        self.submit(lambda connection: connection.perform(step), waiter)
        return waiter.wait(timeout, f"{self.name}: {type(step).__name__}")

    def submit(self, job: Callable[[ControlConnection], T], waiter: Answer[T]) -> None:
        """Have a job run and go on; its end is told to the waiter.

        Args:
            job: called on the control thread with the connection; idempotent, as for `call`.
            waiter: gets the result or the exception, on the control thread.

        Raises:
            StoppedError: the control connection was closed.
        """
        with self._lock:
            if self._closed:
                raise StoppedError(f"{self.name} is closed")
            connection = self._connection
            if connection is None or not connection.thread.is_alive():
                connection = self._start()
            connection.jobs.put((job, waiter))
            if connection is not self._connection:
                connection.jobs.put(None)  # a signal handler has started another meanwhile

    def keep_open(self) -> None:
        """Do not close the connection when idle: something exclusive to it was declared."""
        with self._lock:
            if self._connection is not None:
                self._connection.keep_open = True

    def distrust(self, reason: str) -> None:
        """Give up the connection if something hangs on it: another to the same broker is dead.

        Args:
            reason: what was found, for the error of what hangs.
        """
        with self._lock:
            hanging = self._connection
            if self._closed or hanging is None or not hanging.thread.is_alive():
                return
            LOG.warning("%s: given up: %s", self.name, reason)
            hanging.abandon(self._start(), ConnectionLostError(f"{self.name}: {reason}"))

    def close(self, timeout: float) -> bool:
        """Close the connection and end the thread.

        Args:
            timeout: how long to wait, in seconds.

        Returns:
            Whether the thread has ended.
        """
        with self._lock:
            connection = self._connection
            if not self._closed:
                self._closed = True
                if connection is not None:
                    connection.jobs.put(None)
        if connection is None or connection.thread is threading.current_thread():
            return True
        if connection.thread.is_alive():  # or a signal handler has interrupted its start
            connection.thread.join(timeout)
        return not connection.thread.is_alive()

    def _start(self) -> ControlConnection:
        """Start a connection, which is the present one from here on."""
        before = self._connection
        connection = ControlConnection(self.name, self._parameters, self.facts)
        if self._connection is not before and self._connection is not None:
            return self._connection  # a signal handler was quicker
        self._connection = connection
        connection.thread.start()
        return connection
