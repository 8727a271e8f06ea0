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
from queue import SimpleQueue
from typing import Any, TypeVar

import pika
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.control.connection import ControlConnection, Job
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError, TopologyError, WaitTimeoutError
from neon_mq_connector.link.waiter import Answer, Waiter
from neon_mq_connector.topology import BrokerFacts, DeclareQueue, Queue, QueueStatus, Refusal, Step

LOG = logging.getLogger("neon_mq_connector.control")

T = TypeVar("T")

#: A job with less time left than this is overdue, in seconds: clocks are not that exact.
_ALMOST = 0.01
#: How long a connection that was aborted may take to end, in seconds.
_CLOSE_TIMEOUT = 1.0


class Control:
    """Run blocking operations for any thread, one at a time, on a connection of their own.

    A job that has not ended in its time is given up, with its connection and thread; another
    connection runs the jobs that wait. The thread that waits for a job sees to that when the time
    is over; a caller that does not wait calls `give_up_overdue` later. A thread that was given up
    ends when its socket is shut down; until it has, no other is given up, so there are never more
    than two threads.

    `_lock` owns the current connection, the one given up last, and the closed flag.

    Arguments and errors that its methods have in common:

    * ``what``: what is done, for the message of an error.
    * ``timeout``: how long it may take, in seconds. It is not begun after that.
    * ``waiter``: where the answer goes; another thread may end the wait by failing it.
    * MQConnectionError: there is no connection.
    * WaitTimeoutError: no answer in time; the operation may still be performed.
    * StoppedError: the control connection was closed.

    Args:
        name: the name of the thread.
        parameters: one entry per server, tried in random order.
    """

    def __init__(self, name: str, parameters: Sequence[pika.ConnectionParameters]) -> None:
        self.name = name
        self.facts = BrokerFacts()
        self._parameters = tuple(parameters)
        # reentrant: a signal handler may interrupt its holder to stop the service
        self._lock = threading.RLock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._connection: ControlConnection | None = None
        self._former: ControlConnection | None = None
        self._closed = False

    @property
    def busy_for(self) -> float:
        """For how long the current job has been running, in seconds; 0 when there is none."""
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
        """Run an operation on a channel that is open, as `run` does.

        Raises:
            pika.exceptions.AMQPError: the broker refused; the next call gets a new channel.
        """
        return self.run(what, lambda connection: operation(connection.channel()), timeout, waiter)

    def perform(
        self,
        what: str,
        steps: Callable[[BrokerFacts], Generator[Step, Any, T]],
        *,
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Perform the steps of a topology generator, and return its value.

        Args:
            steps: makes the generator from what is known of the broker.

        Raises:
            TopologyError: the broker refused; the message has its words, and its ``__cause__`` is
                a `Refusal` whose own cause is pika's exception.
        """
        return self.run(what, performing(what, steps), timeout, waiter)

    def perform_step(
        self, step: Step, *, timeout: float, waiter: Waiter[QueueStatus] | None = None
    ) -> QueueStatus:
        """Perform one step of a generator that the caller drives; `Refusal` if it is refused."""
        return self.run(
            type(step).__name__, lambda connection: connection.perform(step), timeout, waiter
        )

    def look_up(self, queue: str, answer: Answer[QueueStatus], *, timeout: float) -> None:
        """Ask for the status of a queue, and return as `submit`; `Refusal` if there is none."""
        step = DeclareQueue(Queue(queue), passive=True)
        self.submit(lambda connection: connection.perform(step), answer, timeout=timeout)

    def submit(
        self,
        operation: Callable[[ControlConnection], T],
        answer: Answer[T],
        *,
        timeout: float,
    ) -> None:
        """Run an operation, and return; `give_up_overdue` is to be called after its time.

        Args:
            operation: called on the control thread with the connection, twice if that turns out to
                be dead: so it must be idempotent. It must wait for nothing but the broker.
            answer: gets the result or the exception, on the control thread.
        """
        with self._lock:
            if self._closed:
                raise StoppedError(f"{self.name} is closed")
            self._jobs.put(Job(operation, answer, time.monotonic() + timeout))
            if self._connection is None or not self._connection.thread.is_alive():
                self._start()

    def run(
        self,
        what: str,
        operation: Callable[[ControlConnection], T],
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Run an operation as `submit` does, and return its result or raise its exception."""
        waiter = waiter or Waiter()
        self.submit(operation, waiter, timeout=timeout)
        try:
            return waiter.wait(timeout, f"{self.name}: {what}")
        except WaitTimeoutError:
            self.give_up_overdue()
            raise

    def give_up_overdue(self) -> None:
        """Give up the connection if its job should have ended; another runs the other jobs."""
        with self._lock:
            connection = self._connection
            job = None if connection is None else connection.current
            if connection is None or job is None or time_left(job.deadline) > _ALMOST:
                return
            if self._closed or (self._former is not None and self._former.thread.is_alive()):
                connection.abort()
                return
            LOG.warning("%s: a job has not ended in time; another connection is opened", self.name)
            self._former = connection
            connection.abandon()
            self._start()
        job.answer.fail(WaitTimeoutError(f"{self.name}: it has not ended in time"))

    def keep_open(self) -> None:
        """Do not close the connection when idle: something exclusive to it was declared."""
        with self._lock:
            if self._connection is not None:
                self._connection.keep_open = True

    def abort(self, reason: str) -> None:
        """End the connection, even with a job on it: another to the same broker is dead."""
        connection = self._connection
        if connection is not None:
            LOG.debug("%s: its connection is ended: %s", self.name, reason)
            connection.abort()

    def close(self, timeout: float) -> bool:
        """Close the connection, and return whether its thread has ended in time."""
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
            both = self._former, self._connection
        ended = [self._end(each, deadline) for each in both if each is not None]
        return all(ended)

    @staticmethod
    def _end(connection: ControlConnection, deadline: float) -> bool:
        thread = connection.thread
        if thread is threading.current_thread() or not thread.is_alive():
            return True  # or its start was interrupted by a signal handler
        thread.join(time_left(deadline))
        if thread.is_alive():
            connection.abort()  # the broker does not answer
            thread.join(_CLOSE_TIMEOUT)
        return not thread.is_alive()

    def _start(self) -> None:
        """Start a connection, which is the current one from here on."""
        self._connection = ControlConnection(self.name, self._parameters, self.facts, self._jobs)
        self._connection.thread.start()


def performing(
    what: str, steps: Callable[[BrokerFacts], Generator[Step, Any, T]]
) -> Callable[[ControlConnection], T]:
    """Return an operation that performs steps, and raises `TopologyError` for a refusal."""

    def operation(connection: ControlConnection) -> T:
        try:
            return connection.drive(steps(connection.facts))
        except Refusal as refusal:
            raise TopologyError(f"{what}: the broker refused: {refusal}") from refusal

    return operation
