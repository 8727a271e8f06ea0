"""A consumer of one queue: it attaches, handles what comes, and attaches again after a loss.

`run` is called by one thread, the consumer's own. Other threads put events into its inbox:
functions, which it calls. Messages wait in the backlog of the dispatcher.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty
from typing import Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.outages import Outages
from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.consumers.runner import CallbackRunner, CallbacksEndedError, HandlingError
from neon_mq_connector.consumers.session import ReceivedMessage, Session
from neon_mq_connector.consumers.sessions import Sessions
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import ConnectionLostError, MQConnectionError, MQError, StoppedError
from neon_mq_connector.lifecycle import Lifecycle, State
from neon_mq_connector.link import RawDelivery, ignore
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.threads.mailbox import Mailbox

LOG = logging.getLogger("neon_mq_connector.consumers")

_IDLE_WAIT = 5.0
_CLOSE_TIMEOUT = 5.0
_LOOK_AGAIN = 0.1
#: For so long after a message the consumer's thread reads the connection itself, in seconds.
_READ_FOR = 0.05
_LOOK_WHETHER_STUCK = 0.2


class Consumer:
    """Consume one queue until stopped.

    `is_stopping` is set once by any thread; `_trouble` is owned by the consumer's thread.

    Args:
        registration: what to consume and how.
        connections: how to reach the broker.
        new_runner: makes the runner of the callbacks.
        report: called with each error that a user should know of: once per outage, and for each
            callback that raised.
        started: set while it consumes.
        callback_name: what to call the callback in messages.
        call_hook: called with the name of a hook of `SelectConsumerThread` and its arguments; with
            hooks the consumer never changes its connection by itself.
        told_after: see `Outages`.
    """

    def __init__(
        self,
        registration: Registration,
        connections: Connections,
        new_runner: Callable[[Dispatcher], CallbackRunner],
        *,
        report: Callable[[BaseException], None],
        started: threading.Event,
        callback_name: str = "",
        call_hook: Callable[..., object] = ignore,
        told_after: Callable[[], int] = int,
    ) -> None:
        self.callback_name = callback_name
        self.registration = registration
        self.connections = connections
        self.report = report
        self.lifecycle = Lifecycle(self._log_move)
        self.started = started
        self.recoveries = 0
        self._call_hook = call_hook
        self._sessions = Sessions(self, call_hook)
        self._inbox: Mailbox[Callable[[], object]] = Mailbox()
        self.is_stopping = False
        self._over = False
        # reentrant: a signal handler may stop what it interrupts
        self._ending = threading.RLock()
        self._stop_timeout = _CLOSE_TIMEOUT
        self._stop_reason = ""
        self._outages = Outages(self, told_after)
        self._guard = Guard("consumer of queue %r: a call", registration.queue.name)
        self._trouble: ParkingError | None = None  # as the state tells it
        self.failures = FailurePolicy(self)
        self.dispatcher = Dispatcher(self, self.failures, new_runner)
        self.flow = Flow(
            registration,
            lambda: self.failures.held,
            lambda: self._outages.is_unstable() and self.dispatcher.counts_deliveries,
        )

    @property
    def queue(self) -> str:
        """The name of the queue: the broker's choice once it has made one."""
        return self._sessions.queue

    @property
    def session(self) -> Session | None:
        """The latest session; its channel tells whether it is over."""
        return self._sessions.latest

    @property
    def vhost(self) -> str:
        """The name of the virtual host."""
        return self.connections.vhost

    @property
    def refusal(self) -> MQConnectionError | None:
        """Why it has ended, where the broker refused the credentials or the virtual host."""
        return self._outages.refusal

    # -- any thread ----------------------------------------------------------------------------

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call a function on the consumer's thread."""
        self._inbox.put(call)
        session = self.session
        if session is not None:
            session.link_channel.wake_reader()

    def request_stop(self, timeout: float = _CLOSE_TIMEOUT, *, reason: str = "") -> None:
        """Stop the consumer, without waiting: no callback starts any more.

        Args:
            timeout: how long the consumer may wait for the broker's answers then, in seconds.
            reason: why, for health and logs.
        """
        if self.is_stopping:
            return
        self._stop_timeout = timeout
        self._stop_reason = reason
        self.is_stopping = True
        self.dispatcher.stop_starting()
        with self._ending:
            if not self._over and not self.lifecycle.move(State.STOPPING, reason):
                self.lifecycle.move(State.STOPPED, reason)  # it never ran
        self._sessions.stop()
        self.call_soon(ignore)

    def reattach(self, session: Session, reason: str) -> None:
        """Attach anew, unless this session is over: the consumer was found to get no messages."""
        self.call_soon(partial(session.note_end, ConnectionLostError(reason)))

    def answered(self, session: Session) -> None:
        """Note an answer that has left by the publishing connection."""
        if self._call_hook is ignore and self._sessions.answered():
            self.call_soon(partial(self._move, session))

    def publish_failed(self, messages: list[ReceivedMessage], error: BaseException) -> None:
        """Deal with messages whose acks wait for a publish that was not confirmed."""
        for each in messages:
            self.call_soon(partial(self.dispatcher.publish_failed, each, error))

    def publish_refused(self, message: ReceivedMessage, error: BaseException) -> None:
        """Deal with a message that was acknowledged on receipt, and a publish for it refused."""
        self.call_soon(partial(self.dispatcher.answer_or_park, message, error))

    def _log_move(self, before: Any, after: Any) -> None:
        states = before.state.value, after.state.value
        LOG.debug("consumer of queue %r: %s -> %s %s", self.queue, *states, after.reason)

    # -- the I/O threads -----------------------------------------------------------------------

    def arrived(self, session: Session, batch: Sequence[RawDelivery]) -> None:
        """Put messages into the backlog, and wake what handles them."""
        session.subscription.delivered(batch)  # before any of them can be settled
        self.dispatcher.arrived(session, batch)
        link, runner, count = session.link, self.dispatcher.runner, len(batch)
        if runner.is_nonblocking:  # no other thread need be woken
            link.call_last(runner.process_backlog, count)
        else:
            link.call_last(self.call_soon, partial(runner.process_backlog, count))
        link.delay_reads(session.settlement.unsettled_count() * session.time_to_settle)

    def session_ended(self, session: Session, error: MQError) -> None:
        """Note that a session is over; callbacks may still be running."""
        self.call_soon(partial(session.note_end, error))
        self.failures.session_ended(session, error)
        if session is self.session:
            self.started.clear()
            # a consumer that has failed says why for as long as it lasts
            self.lifecycle.move(
                State.RECOVERING, str(error), only_from=(State.CONNECTING, State.CONSUMING)
            )

    # -- the consumer's thread -----------------------------------------------------------------

    def run(self) -> None:
        """Consume until stopped, or until the consumer has to give up; never raises."""
        if not self.lifecycle.move(State.CONNECTING):
            return
        try:
            self.dispatcher.runner.start()
            while not self.is_stopping:
                try:
                    error = self._serve(self._attach())
                except StoppedError:
                    break
                except Exception as failure:
                    error = failure
                if error is not None and not self._recover_from(error):
                    break
        except BaseException as error:
            LOG.exception("consumer of queue %r: unexpected end", self.queue)
            self.lifecycle.move(State.FAILED, f"unexpected end: {error!r}")
            self._tell(error)
        finally:
            self._finish()

    def _attach(self) -> Session:
        self.failures.before_attach()
        session = self._sessions.attach(reset=self._outages.never_attached)
        self._outages.attached(self.queue)
        self.lifecycle.move(State.CONSUMING)
        self._trouble = None
        self.started.set()
        return session

    def _serve(self, session: Session) -> BaseException | None:
        """Handle events until the session ends; return why, or None for a stop or a move."""
        dispatcher, failures, sessions = self.dispatcher, self.failures, self._sessions
        # a thread that runs callbacks need not have their messages brought by another, where they
        # come one by one
        may_read, reads = not dispatcher.runner.is_nonblocking, False
        while (
            not self.is_stopping and session is not sessions.former and session.end_reason is None
        ):
            if sessions.former is not None:
                sessions.end_former_if_settled()
            handled, last_message = dispatcher.handled, dispatcher.last_message
            event = self._next_event(self._longest_wait(session), session if reads else None)
            try:
                event()
                if failures.held:
                    dispatcher.retry_due()
                if failures.trouble is not self._trouble:
                    self._note_trouble(failures.trouble)
                if dispatcher.last_message == last_message and session.prefetch < self.flow.asked:
                    self._widen(session)
                reads = may_read and dispatcher.handled == handled + 1
            except CallbacksEndedError as error:
                return error
            except BaseException as error:
                LOG.error("queue %r: handling failed", self.queue, exc_info=error)
                failure = HandlingError(f"queue {self.queue!r}: handling failed: {error!r}")
                failure.__cause__ = error
                return failure
        return None if self.is_stopping else session.end_reason

    def _longest_wait(self, session: Session) -> float:
        may_be_stuck = session.prefetch < self.flow.asked and self._leaves_all_unsettled(session)
        longest = _LOOK_WHETHER_STUCK if may_be_stuck else _IDLE_WAIT
        return min(self.failures.next_due(), longest) if self.failures.held else longest

    def _next_event(self, timeout: float, read: Session | None = None) -> Callable[[], object]:
        """Return the next event, or `ignore`: after each the loop looks for all that is due.

        Args:
            timeout: how long to wait for one, in seconds.
            read: the session whose connection this thread reads meanwhile, for a while.
        """
        inbox = self._inbox
        if read is not None:
            now = time.monotonic()
            until = now + min(timeout, _READ_FOR)
            read.link_channel.read_until(inbox.qsize, until, wakeable=True)
            timeout = time_left(now + timeout)
        try:
            return inbox.get(timeout)
        except Empty:
            return ignore

    def _widen(self, session: Session) -> None:
        """Raise a prefetch that is smaller than was asked for, if that is right by now.

        Callbacks that have left a whole prefetch unsettled may be waiting for more messages.
        """
        is_stuck = (
            self._leaves_all_unsettled(session)
            and not self.failures.held
            and not self.dispatcher.running()
            and not self.dispatcher.backlog
            and not self.flow.is_unstable()
        )
        if is_stuck:
            self.flow.note_stuck()
        session.subscription.adjust_soon(exactly=is_stuck)

    def _leaves_all_unsettled(self, session: Session) -> bool:
        is_manual = self.registration.ack is AckMode.MANUAL
        return is_manual and session.settlement.open_count() >= session.prefetch

    def _move(self, session: Session) -> None:
        """Leave a session; the loop then attaches to the answering connection."""
        # callbacks that leave messages unsettled may rely on their prefetch, which would double
        leaves_unsettled = session.settlement.open_count() > len(self.dispatcher.runner.running())
        if self.failures.held or leaves_unsettled:
            return
        try:
            if self._sessions.may_move(session):  # else the next of many answers asks again
                self._sessions.leave(session)
        except MQError as error:  # the end of the session is in the inbox
            LOG.debug("consumer of queue %r: not moved: %s", self.queue, error)

    def _note_trouble(self, trouble: ParkingError | None) -> None:
        """Set the state to failed while messages cannot be parked, though others are handled."""
        before, self._trouble = self._trouble, trouble
        if trouble is None:
            self.lifecycle.move(State.CONSUMING, only_from=(State.FAILED,))
            return
        self.lifecycle.move(State.FAILED, str(trouble))
        if before is None:
            self._tell(trouble)

    # -- recovering and ending -----------------------------------------------------------------

    def _recover_from(self, error: BaseException) -> bool:
        """Note an outage and wait before the next attempt; return whether to go on."""
        outages, sessions = self._outages, self._sessions
        final = outages.lost(error)
        self.started.clear()
        sessions.lost(error)
        if not final:
            self.recoveries += 1
        is_failed = final or outages.needs_patience
        self.lifecycle.move(State.FAILED if is_failed else State.RECOVERING, str(error))
        if not sessions.note_end(error) and outages.attempt_failed(error):
            before = sessions.latest
            connection = None if before is None else before.connection
            self._call_hook("on_connection_fail", connection, error)
        if outages.is_to_be_told(error) or final:
            self._tell(error)
        if final:
            return False
        self._pause(outages.pause())
        self.lifecycle.move(State.RECOVERING, str(error))
        return not self.is_stopping

    def _pause(self, seconds: float) -> None:
        """Wait for so many seconds, or for a stop; call events meanwhile, but start no message."""
        deadline = time.monotonic() + seconds
        while not self.is_stopping and (left := time_left(deadline)):
            self._call_next(left)

    def _call_next(self, timeout: float = 0.0) -> None:
        event = self._next_event(timeout)
        with self._guard, contextlib.suppress(CallbacksEndedError):  # it is raised again later
            event()

    def _tell(self, error: BaseException) -> None:
        if not self.is_stopping:
            self.report(error)

    def _finish(self) -> None:
        self.started.clear()
        self.dispatcher.stop_starting()
        self.dispatcher.runner.finish()
        self.dispatcher.release()
        sessions, deadline = self._sessions, time.monotonic() + self._stop_timeout
        try:
            self._call_what_is_left()
            self.failures.release(deadline)
            for each in filter(None, (sessions.former, sessions.latest)):
                while each.is_attached and not each.settlement.wait_until_sent(
                    min(_LOOK_AGAIN, time_left(deadline))
                ):
                    self._call_what_is_left()  # a publish may fail only now
                    self.failures.release(deadline)
                    if not time_left(deadline):
                        break
            sessions.detach(deadline)
        except MQError as error:
            LOG.debug("consumer of queue %r: closing: %s", self.queue, error)
        finally:
            reason = self.lifecycle.snapshot.reason or "it was stopped"
            sessions.note_end(
                StoppedError(f"the consumer of queue {self.queue!r} has ended: {reason}")
            )
            with self._ending:
                self._over = True
                if self.lifecycle.state is not State.FAILED:
                    self.lifecycle.move(State.STOPPED, self._stop_reason)
            self._outages.stopped(self.queue, self.dispatcher.handled, self.dispatcher.failed)

    def _call_what_is_left(self) -> None:
        """Call the events that wait: functions of users, and publishes that have failed."""
        while not self._inbox.empty():
            self._call_next()
