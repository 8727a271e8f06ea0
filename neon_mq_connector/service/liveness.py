"""Prove that consumers work: what the broker counts, and what happens to their messages.

A process can look well while nothing reaches its callbacks. So each started consumer is looked at
every few seconds; what is wrong is mended where it can be, and is reported until it is well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neon_mq_connector.consumers import BaseConsumerThread
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.flow import is_bound_to_its_place
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError
from neon_mq_connector.lifecycle import State
from neon_mq_connector.link import IOThread
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.threads.on_demand import RepeatingTimer
from neon_mq_connector.topology import Queue, Refusal

if TYPE_CHECKING:
    from neon_mq_connector.config.tuning import Tuning

LOG = logging.getLogger("neon_mq_connector.liveness")

#: How often consumers are looked at, in seconds.
_PERIOD = 5.0

#: How long the broker may take to answer, in one round for all consumers, in seconds.
_QUERY_TIMEOUT = 5.0
#: From when a loop that does not go round, and a watch that does not look, are reported.
_LONGEST_TICK = 10.0
_LONGEST_LOOK = 30.0
_GRACE = 2.0
#: One that has failed for want of a place to park handles what can be handled.
_AT_WORK = (State.CONSUMING, State.FAILED)
#: For how many times `slow_callback_after` callbacks must have been faster.
_FAST_FOR = 5.0


@dataclass
class _Stall:
    """A time in which messages wait and no callback starts; on the monotonic clock, in seconds.

    Attributes:
        last_message: when the last callback before it was started.
        since: when it was first seen.
        mend_at: when the consumer is to attach anew, or to do so again.
    """

    last_message: float | None
    since: float
    mend_at: float


class LivenessWatch(RepeatingTimer):
    """Look at a connector's consumers on a thread of its own, until it is cancelled.

    `complaints`, `stuck` and `_looked_at` are replaced by the watching thread, and read by any. The
    rest is owned by the watching thread.

    Attributes:
        complaints: what is wrong, by the consumer's name.
        stuck: the part of it that only a restart of the process mends.

    Args:
        name: of the thread.
        settings: say when something is wrong.
        consumers: returns those that were started and not stopped.
        period: how often they are looked at, in seconds.
    """

    def __init__(
        self,
        name: str,
        settings: Tuning,
        consumers: Callable[[], Mapping[str, BaseConsumerThread]],
        period: float = _PERIOD,
    ) -> None:
        super().__init__(period, self.look)
        self.name, self.daemon = name, True
        self.complaints: Mapping[str, str] = {}
        self.stuck: Mapping[str, str] = {}
        self._settings = settings
        self._consumers = consumers
        self._warned: dict[tuple[str, str], tuple[int, int]] = {}
        self._stalls: dict[str, _Stall] = {}
        self._looked_at = time.monotonic()
        self._ask_until = 0.0

    def stall_reason(self) -> str:
        """Return why no consumer is looked at; empty when they are. Any thread may ask."""
        if not self.is_alive():
            return "the thread that looks after the consumers has ended"
        age = time.monotonic() - self._looked_at
        if age < _LONGEST_LOOK + self.interval:
            return ""
        return f"the consumers were last looked after {age:.0f} s ago"

    def look(self) -> None:
        """Look at each consumer once, mend what can be mended, and note what is wrong."""
        before, complaints, stuck = self.complaints, {}, {}
        stalls, self._stalls = self._stalls, {}
        self._ask_until = time.monotonic() + _QUERY_TIMEOUT
        for name, thread in self._consumers().items():
            if self.finished.is_set():
                return
            complaint = before.get(name, "")
            with Guard("looking after consumer %r", name):
                complaint = self._look_at(name, thread.consumer, stalls.get(name))
            if complaint:
                complaints[name] = complaint
                if _is_stuck(thread.consumer):
                    stuck[name] = complaint
            if complaint and name not in before:
                LOG.error("consumer %r: %s", name, complaint)
            elif name in before and not complaint:
                LOG.warning("consumer %r: what was wrong is over", name)
        self.complaints, self.stuck = complaints, stuck
        self._looked_at = time.monotonic()

    def _look_at(self, name: str, consumer: Consumer, stall: _Stall | None) -> str:
        session = consumer.session
        if consumer.lifecycle.state not in _AT_WORK or session is None or not session.is_attached:
            return ""  # its state says what there is to say
        self._relieve(name, consumer, session)
        unsettled = self._unsettled(name, consumer, session)
        complaint = (
            self._connections_stand_still(session)
            or consumer.dispatcher.runner.stall_reason()
            or str(consumer.failures.trouble or "")
            or unsettled
        )
        if complaint:
            return complaint
        problem, ready = self._ask_broker(consumer, session)
        if problem:
            if session is consumer.session and session.is_open:
                consumer.reattach(session, problem)
            return problem
        if not _could_start(consumer, session, ready):
            return ""
        last, now = consumer.dispatcher.last_message, time.monotonic()
        if stall is None or stall.last_message != last:
            stall = _Stall(last, now, now + self._settings.stalled_after)
        self._stalls[name] = stall
        return self._stands_still(consumer, session, stall, ready)

    def _stands_still(self, consumer: Consumer, session: Session, stall: _Stall, ready: int) -> str:
        """Complain that no callback starts; the consumer attaches anew, at growing intervals."""
        now = time.monotonic()
        age = now - stall.since
        if age < self._settings.stalled_after:
            return ""
        problem = (
            f"no callback was started for {age:.0f} s, though there is room for the messages that "
            f"wait: {ready} in queue {session.queue!r}, {len(consumer.dispatcher.backlog)} here"
        )
        if now >= stall.mend_at:
            stall.mend_at = now + 2 * age
            # a queue that deletes itself would end with its consumer
            if session.is_as_registered and not consumer.registration.queue.auto_delete:
                consumer.reattach(session, problem)
        return problem

    def _ask_broker(self, consumer: Consumer, session: Session) -> tuple[str, int]:
        """Ask the broker what is wrong with the queue, and how much it could deliver here."""
        control, queue = session.connections.control, session.queue
        busy = control.busy_for > _QUERY_TIMEOUT  # it would not come to the question
        if busy or not session.consumer_tag or consumer.registration.queue.exclusive:
            return "", 0
        look_up = Queue(queue).declare(passive=True)
        try:
            status = control.perform_step(look_up, timeout=time_left(self._ask_until))
        except Refusal as refusal:
            return f"the broker does not know queue {queue!r}: {refusal.text}", 0
        except MQError as error:
            LOG.debug("queue %r: its consumers were not counted: %s", queue, error)
            return "", 0
        is_new = time.monotonic() - session.since < _GRACE
        if not status.consumers and session.consumer_tag and not is_new:
            return f"the broker counts no consumer on queue {queue!r}", 0
        return "", status.messages if _delivers_all(session, consumer.registration) else 0

    def _connections_stand_still(self, session: Session) -> str:
        control, link = session.connections.control, session.link
        age = stalled_for(link)
        if age >= _LONGEST_TICK:
            return f"the loop of {link.name} has stood still for {age:.0f} s"
        if control.busy_for >= self._settings.stalled_after:
            return f"{control.name} has been busy with one job for {control.busy_for:.0f} s"
        return ""

    def _unsettled(self, name: str, consumer: Consumer, session: Session) -> str:
        """Warn of a message that is unsettled for long; complain if its callback forgets acks."""
        oldest = session.settlement.oldest()
        if oldest is None:
            return ""
        age, longest = time.monotonic() - oldest.started, self._longest_unsettled
        if longest and age >= longest and self._is_news(name, "late", session, oldest.tag):
            LOG.warning(
                "consumer %r: delivery %d of queue %r is unsettled for %.0f s; after %.0f s the "
                "broker closes the channel and delivers it again",
                name,
                oldest.tag,
                session.queue,
                age,
                self._settings.ack_timeout,
            )
        is_manual = consumer.registration.ack is AckMode.MANUAL
        may_be_forgotten = is_manual and not consumer.dispatcher.running()
        if not may_be_forgotten or age < self._settings.forgotten_ack_after:
            return ""
        if self._is_news(name, "forgotten", session, oldest.tag):
            LOG.warning(
                "consumer %r: callback %s left delivery %d of queue %r unsettled %.0f s ago and is "
                "not running: does it forget to acknowledge?",
                name,
                consumer.callback_name,
                oldest.tag,
                session.queue,
                age,
            )
        if session.settlement.open_count() < session.prefetch:
            return ""
        return (
            f"all {session.prefetch} messages that queue {session.queue!r} may have unsettled are "
            f"so, and no callback is running: {consumer.callback_name} does not acknowledge what "
            "it handles"
        )

    def _is_news(self, name: str, kind: str, session: Session, tag: int) -> bool:
        """Whether this delivery is another than the last one that was warned of."""
        this = (session.number, tag)
        before, self._warned[name, kind] = self._warned.get((name, kind)), this
        return before != this

    @property
    def _longest_unsettled(self) -> float:
        """After how many seconds an ack is nearly too late; 0 where the broker has no limit."""
        return self._settings.ack_timeout * self._settings.ack_timeout_warning

    def _relieve(self, name: str, consumer: Consumer, session: Session) -> None:
        """Take fewer messages while callbacks are slow; give back those that waited too long."""
        slow_after, longest = self._settings.slow_callback_after, self._longest_unsettled
        concurrency, running = consumer.registration.concurrency, consumer.dispatcher.running()
        if len(running) < concurrency:
            return
        age = time.monotonic() - running[0].since
        if age >= slow_after and consumer.flow.note_slow(_FAST_FOR * slow_after):
            session.subscription.adjust_soon()
            LOG.info(
                "consumer %r: its callback has run for %.0f s; until callbacks are faster, the "
                "broker sends it no more than %d at a time",
                name,
                age,
                concurrency,
            )
        if longest and (count := consumer.dispatcher.give_back_older(longest)):
            LOG.warning(
                "consumer %r: %d messages have waited for %.0f s behind callbacks that run; they "
                "were given back, before the broker closes the channel because of them",
                name,
                count,
                longest,
            )


def stalled_for(link: IOThread) -> float:
    """Return for how long the loop of a connection has not gone round, in seconds."""
    return time.monotonic() - link.last_tick if link.last_tick else 0.0


def _is_stuck(consumer: Consumer) -> bool:
    """Whether a thread that nothing replaces has stood still for long."""
    session, runner = consumer.session, consumer.dispatcher.runner
    link_stands = session is not None and stalled_for(session.link) >= _LONGEST_TICK
    return link_stands or runner.blocked_for >= _LONGEST_LOOK


def _could_start(consumer: Consumer, session: Session, ready: int) -> bool:
    """Whether a callback could start: for a message that waits here, or in the queue."""
    busy = len(consumer.dispatcher.running()) >= consumer.registration.concurrency
    if busy or session.is_calling:
        return False
    if consumer.dispatcher.backlog:
        return True
    unsettled = session.settlement.unsettled_count()
    return ready > 0 and (not session.prefetch or unsettled < session.prefetch)


def _delivers_all(session: Session, registration: Registration) -> bool:
    """Whether the broker delivers what is in the queue to any consumer that has room.

    A stream keeps what was delivered, and where one consumer is active others wait. A queue that
    was found with other properties than it was registered with may be either.
    """
    return session.is_as_registered and not is_bound_to_its_place(registration)
