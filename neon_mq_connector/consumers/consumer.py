"""A consumer of one queue: it attaches, handles what comes, and attaches again after a loss.

`run` is called by one thread, the consumer's own. Everything that is done to the consumer from
elsewhere is a message in its inbox, so that there is one place to wait.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import Any, NamedTuple

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.attach import attach, detach
from neon_mq_connector.consumers.attempts import ack_timeout
from neon_mq_connector.consumers.dispatcher import Dispatcher
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.moving import LONGEST_MOVE, OLDEST, Moves
from neon_mq_connector.consumers.observer import ConsumerObserver
from neon_mq_connector.consumers.outages import Outages
from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.registration import AckMode, MessageCallback, Registration
from neon_mq_connector.consumers.runner import (
    CallbacksEndedError,
    HandlingError,
    RunnerFactory,
)
from neon_mq_connector.consumers.session import Session, SessionHost
from neon_mq_connector.consumers.workers import ThreadRunner
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    ConnectionLostError,
    MQConnectionError,
    MQError,
    PublishLostError,
    StoppedError,
)
from neon_mq_connector.lifecycle import Lifecycle, State
from neon_mq_connector.link import RawDelivery, Waiter, delivery_tag
from neon_mq_connector.threads.guard import Guard, name_of
from neon_mq_connector.threads.mailbox import Mailbox

LOG = logging.getLogger("neon_mq_connector.consumers")

_IDLE_WAIT = 5.0
_CLOSE_TIMEOUT = 5.0
_LOOK_AGAIN = 0.1
_LOOK_WHETHER_DONE = 0.01
_LOOK_WHETHER_STUCK = 0.2
#: No callback needs less time for a message, and none that answers for a request, in seconds.
_TIME_PER_CALLBACK = 10e-6
_TIME_PER_ANSWER = 25e-6


class _Arrived(NamedTuple):
    session: Session
    batch: list[Sequence[RawDelivery]]  # one, for whoever takes it out
    at: float


@dataclass(frozen=True)
class _Ended:
    session: Session | None
    error: MQError


class _Stop:
    pass


class Consumer:
    """Consume one queue until stopped.

    Owned by the consumer's thread: the session, whether it is being left for another connection
    (`_leaving`), and `_trouble`. `_stopping` is set once by any thread; `_attaching` is the waiter
    that a stop has to end.

    Args:
        registration: what to consume and how.
        connections: how to reach the broker.
        callback: what is called for each message, in the way of the runner.
        report: called with each error that a user should know of: once per outage, and for each
            callback that raised.
        observer: hears how the connection fares.
        started: set while it consumes.
        name: the name of the threads that handle messages.
        callback_name: what to call the callback in messages.
        new_runner: makes what runs the callbacks.
    """

    def __init__(
        self,
        registration: Registration,
        connections: Connections,
        callback: MessageCallback,
        *,
        report: Callable[[BaseException], None],
        started: threading.Event,
        name: str,
        observer: ConsumerObserver | None = None,
        callback_name: str = "",
        new_runner: RunnerFactory = ThreadRunner,
    ) -> None:
        self.callback_name = callback_name or name_of(callback)
        self.registration = registration
        self.lifecycle = Lifecycle(self._log_move)
        self.started = started
        self.session: Session | None = None  # the latest; its channel tells whether it is over
        self.recoveries = 0
        self._connections = connections
        self._report = report
        self._observer = observer or ConsumerObserver()
        self._inbox: Mailbox[Any] = Mailbox()
        self._stopping = False
        self._over = False
        # reentrant: a signal handler may stop what it interrupts
        self._ending = threading.RLock()
        self._stop_timeout = _CLOSE_TIMEOUT
        self._stop_reason = ""
        self._attaching: Waiter[Any] = Waiter()
        self._outages = Outages(registration.restart_attempts, connections.policy.backoff)
        self._opened: Session | None = None  # the one that the observer knows to be open
        self._guard = Guard("consumer of queue %r: a call", registration.queue.name)
        self._moves = Moves(registration)
        self._leaving: Session | None = None
        self._leave_until = 0.0
        self._trouble: ParkingError | None = None  # as the state tells it
        self.failures = FailurePolicy(
            registration, connections, partial(self._inbox.put, _look_what_is_due)
        )
        self.dispatcher = Dispatcher(
            registration,
            callback,
            self.failures,
            report=report,
            later=self._inbox.put,
            name=name,
            new_runner=new_runner,
        )
        self.flow = Flow(registration, lambda: self.failures.held, self._is_unstable)
        # what never waits may be done by the I/O thread, and spares waking another for it
        self._take = self._handle if self.dispatcher.runner.never_waits else self._inbox.put
        self._host = SessionHost(
            stop=partial(self.request_stop, reason="a callback has closed its channel"),
            later=self._inbox.put,
            publish_failed=self.dispatcher.publish_failed,
            report=report,
            ended=self._ended,
            answered=self._answered,
            is_stopping=lambda: self._stopping,
            acks_on_receipt=registration.ack is AckMode.ON_RECEIPT,
            flow=self.flow,
        )

    @property
    def queue(self) -> str:
        """The name of the queue: the broker's choice once it has made one."""
        session = self.session
        return self.registration.queue.name if session is None else session.queue

    @property
    def vhost(self) -> str:
        """The name of the virtual host."""
        return self._connections.vhost

    # -- any thread ----------------------------------------------------------------------------

    def request_stop(self, timeout: float = _CLOSE_TIMEOUT, *, reason: str = "") -> None:
        """Have the consumer stop, without waiting: no callback starts any more.

        Args:
            timeout: how long the consumer may wait for the broker's answers then, in seconds.
            reason: why, for health and logs.
        """
        if self._stopping:
            return
        self._stop_timeout = timeout
        self._stop_reason = reason
        self._stopping = True
        self.dispatcher.stop_starting()
        with self._ending:
            if not self._over and not self.lifecycle.move(State.STOPPING, reason):
                self.lifecycle.move(State.STOPPED, reason)  # it never ran
        session = self.session
        if session is not None:
            session.cancel()
        self._attaching.fail(StoppedError(f"the consumer of queue {self.queue!r} is stopping"))
        self._inbox.put(_Stop())

    def reattach(self, session: Session, reason: str) -> None:
        """Have the consumer attach anew: somebody found that it gets nothing.

        Args:
            session: the generation that was looked at; nothing is done when it is over.
            reason: what was found, for health and logs.
        """
        self._inbox.put(_Ended(session, ConnectionLostError(reason)))

    def give_back_older(self, seconds: float) -> int:
        """Return to the broker what has waited here for long and is not started, in its order.

        Args:
            seconds: for how long.

        Returns:
            How many messages were given back.
        """
        before = time.monotonic() - seconds
        count = self.dispatcher.give_back_older(before)
        for item in self._inbox.waiting():
            if type(item) is _Arrived and item.at < before:
                with contextlib.suppress(IndexError):  # it is being handled
                    for raw in item.batch.pop():
                        item.session.settlement.give_back(delivery_tag(raw[0]))
                        count += 1
        return count

    def waiting_count(self) -> int:
        """How many messages wait for a callback to end, about."""
        arrived = [item.batch for item in self._inbox.waiting() if type(item) is _Arrived]
        return len(self.dispatcher.backlog) + sum(len(each) for batch in arrived for each in batch)

    def _consume_again(self, session: Session) -> None:
        self._leaving = None
        if session is self.session and session.is_open:
            with contextlib.suppress(MQError):  # if the channel is gone its end is in the inbox
                session.subscribe(session.prefetch)

    def _answered(self, session: Session) -> None:
        if self._observer.bears_moves and self._moves.answered():
            self._inbox.put(partial(self._begin_to_move, session))

    def _log_move(self, before: Any, after: Any) -> None:
        LOG.debug(
            "consumer of queue %r: %s -> %s %s",
            self.queue,
            before.state.value,
            after.state.value,
            after.reason,
        )

    # -- the consumer's thread -----------------------------------------------------------------

    def run(self) -> None:
        """Consume until stopped, or until going on has no sense; returns, never raises."""
        if not self.lifecycle.move(State.CONNECTING):
            return
        try:
            self.dispatcher.start()
            while not self._stopping:
                try:
                    session = self._attach()
                except StoppedError:
                    break
                except Exception as error:
                    if not self._recover_from(error):
                        return
                    continue
                ended = self._serve(session)
                if ended is None:
                    break
                if not self._recover_from(ended):
                    return
        except BaseException as error:
            LOG.exception("consumer of queue %r: unexpected end", self.queue)
            self.lifecycle.move(State.FAILED, f"unexpected end: {error!r}")
            self._tell(error)
        finally:
            self._finish()

    def _attach(self) -> Session:
        self._attaching = Waiter()
        if self._stopping:
            raise StoppedError(f"the consumer of queue {self.queue!r} is stopping")
        self.failures.before_attach()
        session = attach(
            self.registration,
            self._connections,
            self._host,
            queue_name=self.queue,
            reset=self._outages.never_attached,
            answering=self._moves.is_there and self._connections.may_answer,
            new_waiter=self._new_waiter,
            on_deliveries=self._arrived,
            on_ended=self._ended,
            on_session=self._set_session,
        )
        self._opened = session
        self._observer.opened(session)
        self._outages.attached()
        self.lifecycle.move(State.CONSUMING)
        self._trouble = None
        self.started.set()
        return session

    def _ended(self, session: Session, error: MQError) -> None:
        """Take the end of a session; called on the I/O thread, a callback may still be running."""
        self._inbox.put(_Ended(session, error))
        if session is self._leaving:
            self._attaching.fail(error)  # its consumer is gone: nobody confirms that it ends
        waited = ack_timeout(error)
        if waited is not None:
            oldest = session.settlement.oldest()
            if oldest is not None and time.monotonic() - oldest.since > waited / 2:
                self.failures.late_acks.add(oldest.delivery)
        if session is self.session:
            self.started.clear()
            # a consumer that has failed says why for as long as it lasts
            self.lifecycle.move(
                State.RECOVERING, str(error), only_from=(State.CONNECTING, State.CONSUMING)
            )

    def _arrived(self, session: Session, batch: Sequence[RawDelivery]) -> None:
        """Take messages in; called on the I/O thread."""
        session.delivered(batch)
        session.link.call_last(self._take, _Arrived(session, [batch], time.monotonic()))
        each = _TIME_PER_ANSWER if session.takes_answers else _TIME_PER_CALLBACK
        session.link.delay_reads(session.settlement.unsettled_count() * each)

    def _handle(self, arrived: _Arrived) -> None:
        try:
            batch = arrived.batch.pop()
        except IndexError:
            return  # it was given back
        self.dispatcher.handle_batch(arrived.session, batch, arrived.at)

    def _is_unstable(self) -> bool:
        """Whether a lost connection would count against what was sent ahead, and is likely.

        A quorum queue counts a lost connection against every message that was sent ahead, and
        drops those that it has counted often (RabbitMQ 4.0).
        """
        if not self._outages.is_unstable():
            return False
        declared = self.registration.queue.arguments.get("x-queue-type") == "quorum"
        return declared or self.dispatcher.highest_delivery_count > 0

    def _widen(self, session: Session) -> None:
        """Look whether a prefetch that is smaller than was asked for is still right.

        Callbacks that have left all that may come unsettled may wait for more of it.
        """
        is_stuck = (
            self._leaves_all_unsettled(session)
            and not self.failures.held
            and not self.dispatcher.running()
            and not self.waiting_count()
            and not self._is_unstable()
        )
        if is_stuck:
            self.flow.note_stuck()
        session.adjust_soon(exactly=is_stuck)

    def _leaves_all_unsettled(self, session: Session) -> bool:
        is_manual = self.registration.ack is AckMode.MANUAL
        return is_manual and session.settlement.open_count() >= session.prefetch

    def _set_session(self, session: Session) -> None:
        before, self.session = self.session, session
        if before is not None:
            session.lost = before.started or before.lost

    def _new_waiter(self) -> Waiter[Any]:
        waiter: Waiter[Any] = Waiter()
        self._attaching = waiter
        if self._stopping:
            waiter.fail(StoppedError(f"the consumer of queue {self.queue!r} is stopping"))
        return waiter

    def _serve(self, session: Session) -> BaseException | None:
        """Handle what comes until the session ends (returns why) or a stop (returns None)."""
        failures, inbox = self.failures, self._inbox
        while not self._stopping:
            due = failures.next_due()
            longest = _IDLE_WAIT if self._leaving is None else _LOOK_WHETHER_DONE
            is_narrow = session.prefetch < self.flow.asked
            if is_narrow and self._leaves_all_unsettled(session):
                longest = min(longest, _LOOK_WHETHER_STUCK)
            try:
                item = inbox.get(timeout=longest if due is None else min(due, longest))
            except Empty:
                item = None
            try:
                if type(item) is _Arrived:
                    self._handle(item)
                elif isinstance(item, _Ended):
                    if item.session is session:
                        return item.error
                elif callable(item):
                    item()
                self.dispatcher.retry_due(session)
                if failures.trouble is not self._trouble:
                    self._note_trouble(failures.trouble)
                if is_narrow and type(item) is not _Arrived:
                    self._widen(session)
            except CallbacksEndedError as error:
                return error
            except BaseException as error:
                return self._unexpected(error)
            if self._leaving is not None:
                try:
                    session = self._go_on_moving(session)
                except StoppedError:
                    break
                except Exception as error:
                    return error
            item = None  # not to keep a message alive while waiting for the next
        return None

    def _note_trouble(self, trouble: ParkingError | None) -> None:
        """Be failed while what fails cannot be parked, although the rest is handled."""
        before, self._trouble = self._trouble, trouble
        if trouble is None:
            self.lifecycle.move(State.CONSUMING, only_from=(State.FAILED,))
            return
        self.lifecycle.move(State.FAILED, str(trouble))
        if before is None:
            self._tell(trouble)

    def _begin_to_move(self, session: Session) -> None:
        """Have no more sent, to leave for the connection for answers when all is settled."""
        if session is not self.session or not session.is_open or not session.consumer_tag:
            return
        if session.takes_answers or self.failures.held or not self._moves.is_wanted():
            return
        if not session.is_ours or session.connection.has_close_callbacks:
            return  # who knows what becomes of the queue meanwhile; or who takes it for a loss
        try:
            if not self._connections.is_ready_for_answers():
                return  # the next of many answers asks again
            oldest = session.settlement.oldest()
            if oldest is not None and time.monotonic() - oldest.since > OLDEST:
                self._moves.given_up()
                return
            waiter = self._new_waiter()
            self._leaving, self._leave_until = session, time.monotonic() + LONGEST_MOVE
            session.finish_flow(waiter)
        except MQError:  # its end, or that of the consumer, is in the inbox
            self._leaving = None

    def _go_on_moving(self, session: Session) -> Session:
        """Move if nothing is left to settle.

        Returns:
            The session to serve.

        Raises:
            MQError: it could not attach anew.
        """
        session.settlement.flush()
        if session.settlement.unsettled_count():
            if time.monotonic() >= self._leave_until:
                self._moves.given_up()
                self._consume_again(session)
            return session
        self._leaving = None
        self._moves.arrived()
        self._note_end(MQError(f"the consumer of queue {session.queue!r} changes its connection"))
        try:
            return self._attach()
        except MQError:
            self._moves.given_up()
            raise
        finally:
            session.end()

    def _unexpected(self, error: BaseException) -> HandlingError:
        """Make an outage of what ought not to happen: the broker delivers what it was about again.

        That is no reason to end, or a fault in handling one message would end the others' too.
        """
        LOG.error("queue %r: handling failed", self.queue, exc_info=error)
        made = HandlingError(f"queue {self.queue!r}: handling failed: {error!r}")
        made.__cause__ = error
        return made

    def _recover_from(self, error: BaseException) -> bool:
        """Note an outage and wait before the next attempt.

        Returns:
            Whether to go on.
        """
        outages = self._outages
        self._leaving = None
        final = outages.lost(error)
        self.started.clear()
        if self.session is not None:
            self.session.end()
            if self.session.takes_answers:
                self._moves.lost(error)
        if not final:
            self.recoveries += 1
        # while the broker is away nothing can be parked; it is tried again when it is back
        parked = isinstance(error, ParkingError) and not isinstance(
            error.__cause__, (MQConnectionError, PublishLostError)
        )
        held_up = parked or isinstance(error, HandlingError)
        self.lifecycle.move(State.FAILED if final or held_up else State.RECOVERING, str(error))
        if not self._note_end(error):
            self._observer.attempt_failed(error)
        if final or (not outages.was_told and self._observer.is_to_be_told(error)):
            outages.told()
            self._tell(error)
        if final:
            return False
        self._pause(outages.pause(longest=held_up))
        self.lifecycle.move(State.RECOVERING, str(error))
        return not self._stopping

    def _note_end(self, error: BaseException) -> bool:
        """Tell who has heard of it that the session which was opened is closed.

        Returns:
            Whether there was one.
        """
        session, self._opened = self._opened, None
        if session is None:
            return False
        session.connection.closed(error)
        self._observer.closed(session, error)
        return True

    def _pause(self, seconds: float) -> None:
        """Wait for a stop; calls that come meanwhile are made, no message is started."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            try:
                item = self._inbox.get(timeout=left)
            except Empty:
                return
            if type(item) is _Arrived:
                self._handle(item)  # which notes that it was not started
            elif callable(item):
                with self._guard, contextlib.suppress(CallbacksEndedError):  # it shows again
                    item()

    def _tell(self, error: BaseException) -> None:
        if not self._stopping:
            self._report(error)

    def _finish(self) -> None:
        self.started.clear()
        self.dispatcher.finish()
        session = self.session
        deadline = time.monotonic() + self._stop_timeout
        try:
            self._run_what_is_left()
            if session is not None:
                self.failures.release(session, deadline)
                while session.is_attached and not session.settlement.wait_until_sent(
                    min(_LOOK_AGAIN, time_left(deadline))
                ):
                    self._run_what_is_left()  # a publish may fail only now
                    self.failures.release(session, deadline)
                    if not time_left(deadline):
                        break
                detach(self.registration, self._connections, session, deadline)
                session.end()
        except MQError as error:
            LOG.debug("consumer of queue %r: closing: %s", self.queue, error)
        finally:
            reason = self.lifecycle.snapshot.reason or "it was stopped"
            self._note_end(
                StoppedError(f"the consumer of queue {self.queue!r} has ended: {reason}")
            )
            with self._ending:
                self._over = True
                if self.lifecycle.state is not State.FAILED:
                    self.lifecycle.move(State.STOPPED, self._stop_reason)

    def _run_what_is_left(self) -> None:
        """Make the calls that were handed over: of users, and for publishes that have failed."""
        while True:
            try:
                item = self._inbox.get_nowait()
            except Empty:
                return
            if callable(item):
                with self._guard, contextlib.suppress(CallbacksEndedError):
                    item()


def _look_what_is_due() -> None:
    """Do nothing: whoever takes it out of the inbox looks at what is due next."""
