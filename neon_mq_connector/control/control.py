"""The control connection: everything that the broker may refuse.

A refused declare closes a channel, or the whole connection. So these are done on a connection on
which nothing else lives. Opening it anew costs a few milliseconds; it is closed when it has been
idle for a while.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    ChannelShutError,
    ConnectionLostError,
    MQConnectionError,
    StoppedError,
    TopologyError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Answer, CallbackAnswer, ChannelEvents, Link, LinkChannel, Waiter
from neon_mq_connector.link.translate import broker_refusal, loss_error
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.topology import BrokerFacts, Call, Queue, QueueStatus, Refusal, Step

T = TypeVar("T")

#: What is asked of the broker, one thing after another. It makes a generator that yields steps, for
#: which it is sent a `QueueStatus`, and calls, for which it is sent pika's frame, or that is thrown
#: a `Refusal`. It runs on the I/O thread and must not wait. Another is made if the connection turns
#: out to be dead: so what it asks must be idempotent.
Operation: TypeAlias = Callable[[BrokerFacts], Generator[Call, Any, T]]

#: How long the connection is kept without work, in seconds.
IDLE_TIMEOUT = 30.0


@dataclass(eq=False)
class _Job:
    """An operation with its `Control.submit`, and how far it has come."""

    what: str
    operation: Operation[Any]
    answer: Answer[Any]
    timeout: float
    deadline: float
    steps: Generator[Call, Any, Any]
    was_lost: bool = False


class Control:
    """Perform operations for any thread, one at a time, on a connection of their own.

    A refusal closes the channel; what is asked next opens another. An operation that has not ended
    in its time is given up, with the connection: pika waits without end for an answer that does not
    come.

    What has an underscore is owned by the I/O thread.

    Arguments and errors that its methods have in common:

    * ``what``: what is done, for the message of an error.
    * ``timeout``: how long it may take, in seconds. It is not begun after that.
    * ``waiter``: where the answer goes; another thread may end the wait by failing it.
    * MQConnectionError: there is no connection.
    * WaitTimeoutError: no answer in time; the operation may still be performed.
    * StoppedError: the control connection was closed.

    Args:
        name: the name of the I/O thread.
        parameters: one entry per server, tried in random order.

    Attributes:
        facts: what is known of the broker.
        link: the connection.
        exclusive: the queues that callbacks have declared exclusive to it, for which it is kept
            open until they are deleted. Any thread may look.
    """

    def __init__(self, name: str, parameters: Sequence[pika.ConnectionParameters]) -> None:
        self.name = name
        self.facts = BrokerFacts()
        self.link = Link(name, parameters, reconnects=False)
        self.exclusive: set[str] = set()
        self._channel: LinkChannel | None = None
        self._events = ChannelEvents(shut=self._shut)
        self._guard = Guard("%s: an answer", name)
        self._jobs: deque[_Job] = deque()  # the first is being done
        self._done = 0
        self._busy_since: float | None = None

    # -- any thread ----------------------------------------------------------------------------

    @property
    def busy_for(self) -> float:
        """For how long the current operation has been going on, in seconds; 0 without one."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(
        self, what: str, operation: Operation[T], answer: Answer[T], *, timeout: float
    ) -> None:
        """Perform an operation, and return.

        Args:
            operation: what is asked of the broker.
            answer: gets the result or the exception, on the I/O thread.
        """
        self.link.open_soon()
        self._submit(what, operation, answer, timeout)

    def run(
        self,
        what: str,
        operation: Operation[T],
        *,
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Perform an operation as `submit` does, and return its result or raise its exception."""
        waiter = waiter or Waiter()
        self.submit(what, operation, waiter, timeout=timeout)
        return waiter.wait(timeout, f"{self.name}: {what}")

    def perform(
        self,
        what: str,
        operation: Operation[T],
        *,
        timeout: float,
        waiter: Waiter[T] | None = None,
    ) -> T:
        """Perform an operation as `run` does.

        Raises:
            TopologyError: the broker refused; the message has its words, and its ``__cause__`` is
                a `Refusal` whose own cause is pika's exception.
        """
        try:
            return self.run(what, operation, timeout=timeout, waiter=waiter)
        except Refusal as refusal:
            raise TopologyError(f"{what}: the broker refused: {refusal}") from refusal

    def perform_step(
        self, step: Step, *, timeout: float, waiter: Waiter[QueueStatus] | None = None
    ) -> QueueStatus:
        """Perform one step; `Refusal` if it is refused."""
        return self.run(str(step), single(step), timeout=timeout, waiter=waiter)

    def look_up(self, queue: str, answer: Answer[QueueStatus], *, timeout: float) -> None:
        """Ask for the status of a queue, and return as `submit`; `Refusal` if there is none."""
        step = Queue(queue).declare(passive=True)
        self.submit(f"looking up queue {queue!r}", single(step), answer, timeout=timeout)

    def get(self, queue: str, *, timeout: float) -> tuple[Any, Any, Any]:
        """Take one message from an exclusive queue, and acknowledge it.

        Returns:
            pika's ``(method, properties, body)``, three times None when the queue is empty.
        """
        channel = self.link.open_channel(ChannelEvents(), timeout=timeout)
        try:
            return channel.get(queue, True, timeout=timeout)
        except MQConnectionError as error:
            raise broker_refusal(error) or error from error.__cause__
        finally:
            channel.close_soon()

    def close(self, timeout: float) -> bool:
        """Close the connection when what was submitted is done; return whether that was in time."""
        deadline, waiter = time.monotonic() + timeout, Waiter[None]()
        with contextlib.suppress(StoppedError, WaitTimeoutError):  # there was no connection
            self._submit("closing", _nothing, waiter, timeout)
            waiter.wait(timeout, f"{self.name}: closing")
        return self.link.close(time_left(deadline))

    def _submit(
        self, what: str, operation: Operation[T], answer: Answer[T], timeout: float
    ) -> None:
        deadline = time.monotonic() + timeout
        job = _Job(what, operation, answer, timeout, deadline, operation(self.facts))
        self.link.submit(partial(self._add, job))

    # -- I/O thread ----------------------------------------------------------------------------

    def _add(self, job: _Job) -> None:
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._begin(job)

    def _begin(self, job: _Job) -> None:
        """Begin the first job, perhaps for the second time."""
        if not self._is_current(job):
            return
        left = time_left(job.deadline)
        if not left:
            self._end(job.answer.fail, self._late(job))
            return
        self._busy_since = time.monotonic()
        self.link.set_timer(left, partial(self._overdue, job))
        if job.was_lost:
            self.link.abort("it is lost")  # if pika has not reported that yet
        self._advance(job, partial(next, job.steps))

    def _advance(self, job: _Job, resume: Callable[[], Call]) -> None:
        """Ask what a job wants next, on a channel that is open."""
        if not self._is_current(job):
            return
        try:
            asked = resume()
        except StopIteration as end:
            self._end(job.answer.resolve, end.value)
            return
        except BaseException as error:  # it is raised where the answer is waited for
            self._end(job.answer.fail, error)
            return
        channel = self._channel
        if channel is not None and channel.is_open:
            self._ask(job, asked, channel)
        else:
            opened, failed = partial(self._ask, job, asked), partial(self._failed, job)
            self.link.begin_channel(self._events, CallbackAnswer(opened, failed))

    def _ask(self, job: _Job, asked: Call, channel: LinkChannel) -> bool:
        """Ask something on a channel; return whether that is wanted still."""
        if not self._is_current(job):
            return False
        self._channel = channel

        def answered(frame: Any) -> None:
            if asked.method == "queue_delete":
                self.exclusive.discard(asked.args[0])
            answer = QueueStatus.of(frame) if isinstance(asked, Step) else frame
            self._advance(job, partial(job.steps.send, answer))

        channel.begin_call(asked, CallbackAnswer(answered, partial(self._failed, job)))
        return True

    def _failed(self, job: _Job, error: BaseException) -> None:
        """Tell a job that it was refused; begin it once more if the connection was lost."""
        if not self._is_current(job):
            return
        if isinstance(error, StoppedError):
            while self._jobs:
                self._jobs.popleft().answer.fail(error)
            return
        if isinstance(error, (pika_errors.AMQPConnectionError, pika_errors.ChannelWrongStateError)):
            error = loss_error(error, what=self.name)
        refusal = broker_refusal(error)
        if refusal is not None:
            # later: if the connection is closed, the link is about to know
            self.link.submit(partial(self._advance, job, partial(job.steps.throw, refusal)))
            return
        if isinstance(error, (ConnectionLostError, ChannelShutError)):
            self._forget()
            if not job.was_lost:
                job.was_lost, job.steps = True, job.operation(self.facts)
                self.link.submit(partial(self._begin, job))
                return
        self._advance(job, partial(job.steps.throw, error))

    def _overdue(self, job: _Job) -> None:
        """Give up a job, and the connection with it."""
        if self._is_current(job):
            error = self._late(job)
            self._end(job.answer.fail, error)
            self.link.abort(str(error))

    def _late(self, job: _Job) -> WaitTimeoutError:
        return WaitTimeoutError(f"{self.name}: {job.what}: no answer within {job.timeout:g} s")

    def _end(self, tell: Callable[[Any], object], outcome: Any) -> None:
        """End the first job, and go on with the next."""
        self._busy_since = None
        self._jobs.popleft()
        self._done += 1
        if self._jobs:
            self.link.submit(partial(self._begin, self._jobs[0]))
        else:
            self.link.set_timer(IDLE_TIMEOUT, partial(self._end_if_idle, self._done))
        with self._guard:
            tell(outcome)

    def _end_if_idle(self, done: int) -> None:
        if self._done == done and not self._jobs and not self.exclusive:
            self._channel = None
            self.link.disconnect()

    def _is_current(self, job: _Job) -> bool:
        return bool(self._jobs) and self._jobs[0] is job

    def _shut(self, error: object) -> None:
        if isinstance(error, ConnectionLostError):
            self.exclusive.clear()  # the broker has deleted them
        if self._channel is not None and not self._jobs:
            self._forget()

    def _forget(self) -> None:
        # another broker, or the same with another configuration, may answer next time
        self.facts.refuses_transient_queues = False


def _nothing(_facts: BrokerFacts) -> Generator[Step, Any, None]:
    yield from ()


def single(step: Step) -> Operation[QueueStatus]:
    """Return the operation of one step."""

    def operation(_facts: BrokerFacts) -> Generator[Step, Any, QueueStatus]:
        status: QueueStatus = yield step
        return status

    return operation
