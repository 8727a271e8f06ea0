"""Prove that consumers are alive: what the broker counts, and what happens to their messages.

A process can look well while nothing reaches its callbacks. So each started consumer is looked at
every few seconds; what is wrong heals itself where it can, and is reported until it is well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pika.exceptions as pika_errors

from neon_mq_connector.consumers import BaseConsumerThread
from neon_mq_connector.consumers.consumer import Consumer
from neon_mq_connector.consumers.registration import AckMode
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import MQError
from neon_mq_connector.lifecycle import State
from neon_mq_connector.threads.repeating_timer import RepeatingTimer

LOG = logging.getLogger("neon_mq_connector.liveness")

_QUERY_TIMEOUT = 5.0
_LONGEST_TICK = 10.0
_GRACE = 2.0
_MANY_WARNINGS = 10_000


@dataclass(frozen=True)
class LivenessPolicy:
    """When something is wrong.

    Attributes:
        period: how often consumers are looked at, in seconds (5).
        slow_callback_after: from when a callback is slow, in seconds (60); what waits behind it is
            given back.
        ack_timeout: how long the broker waits for an ack, in seconds (1800); 0 for ever.
        ack_timeout_warning: the share of it after which a warning is given (0.8).
        forgotten_ack_after: for how long all of the prefetch may be unsettled with no callback
            running, in seconds (30).
    """

    period: float = 5.0
    slow_callback_after: float = 60.0
    ack_timeout: float = 1800.0
    ack_timeout_warning: float = 0.8
    forgotten_ack_after: float = 30.0


class LivenessWatch:
    """Look at a connector's consumers on a thread of its own.

    `complaints` is replaced as a whole by the watching thread, and read by any. `_warned` is owned
    by the watching thread.

    Args:
        name: of the thread.
        policy: when something is wrong.
        consumers: gives those that were started and not stopped.
    """

    def __init__(
        self,
        name: str,
        policy: LivenessPolicy,
        consumers: Callable[[], Mapping[str, BaseConsumerThread]],
    ) -> None:
        self.complaints: Mapping[str, str] = {}
        self._policy = policy
        self._consumers = consumers
        self._warned: set[tuple[int, int]] = set()
        self._timer = RepeatingTimer(policy.period, self.look)
        self._timer.name = name
        self._timer.daemon = True

    def start(self) -> None:
        """Begin to look."""
        self._timer.start()

    def stop(self) -> None:
        """Look no more; does not wait."""
        self._timer.cancel()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end.

        Args:
            timeout: how long at most, in seconds.
        """
        if self._timer.is_alive() and self._timer is not threading.current_thread():
            self._timer.join(timeout)

    def look(self) -> None:
        """Look at each consumer once, heal what can be healed, and note what is wrong."""
        complaints = {}
        for name, thread in self._consumers().items():
            if self._timer.finished.is_set():
                return
            complaint = self._look_at(name, thread.consumer)
            if complaint:
                complaints[name] = complaint
                if self.complaints.get(name) != complaint:
                    LOG.error("consumer %r: %s", name, complaint)
        self.complaints = complaints

    def _look_at(self, name: str, consumer: Consumer) -> str:
        session = consumer.session
        if consumer.lifecycle.state is not State.CONSUMING or session is None:
            return ""  # its state says what there is to say
        self._warn_of_late_acks(name, consumer, session)
        self._warn_of_forgotten_acks(name, consumer, session)
        self._relieve(name, consumer)
        return (
            self._loop_stands_still(consumer)
            or consumer.dispatcher.runner.standstill()
            or self._forgotten_acks(consumer, session)
            or self._not_counted(consumer, session)
        )

    def _not_counted(self, consumer: Consumer, session: Session) -> str:
        """Ask the broker how many consumers the queue has; none means that we get nothing."""
        if not session.consumer_tag or consumer.registration.queue.exclusive:
            return ""
        if time.monotonic() - session.since < _GRACE:
            return ""
        queue = session.queue
        try:
            count = session.connections.control.call(
                f"counting the consumers of queue {queue!r}",
                lambda channel: channel.queue_declare(queue, passive=True).method.consumer_count,
                timeout=_QUERY_TIMEOUT,
            )
        except pika_errors.ChannelClosedByBroker as error:
            problem = f"the broker does not know queue {queue!r}: {error.reply_text}"
        except (pika_errors.AMQPError, MQError) as error:
            LOG.debug("queue %r: its consumers were not counted: %s", queue, error)
            return ""
        else:
            if count > 0 or not session.consumer_tag:
                return ""
            problem = f"the broker counts no consumer on queue {queue!r}"
        if session is consumer.session and session.is_open:
            consumer.reattach(session, problem)
        return problem

    def _loop_stands_still(self, consumer: Consumer) -> str:
        link = consumer.session.link if consumer.session is not None else None
        if link is None or not link.last_tick:
            return ""
        age = time.monotonic() - link.last_tick
        return (
            f"the loop of {link.name} has stood still for {age:.0f} s"
            if age > _LONGEST_TICK
            else ""
        )

    def _forgotten_acks(self, consumer: Consumer, session: Session) -> str:
        if consumer.registration.ack is not AckMode.MANUAL or consumer.dispatcher.running():
            return ""
        oldest = session.settlement.oldest()
        if oldest is None or session.settlement.open_count() < session.prefetch:
            return ""
        if time.monotonic() - oldest.since < self._policy.forgotten_ack_after:
            return ""
        return (
            f"all {session.prefetch} messages that queue {session.queue!r} may have unsettled are "
            f"so, and no callback is running: {consumer.callback_name} does not acknowledge what "
            "it handles"
        )

    def _warn_of_forgotten_acks(self, name: str, consumer: Consumer, session: Session) -> None:
        if consumer.registration.ack is not AckMode.MANUAL or consumer.dispatcher.running():
            return
        oldest = session.settlement.oldest()
        if oldest is None or time.monotonic() - oldest.since < self._policy.forgotten_ack_after:
            return
        if self._is_news(session, -oldest.tag):
            LOG.warning(
                "consumer %r: callback %s left delivery %d of queue %r unsettled %.0f s ago and is "
                "not running: does it forget to acknowledge?",
                name,
                consumer.callback_name,
                oldest.tag,
                session.queue,
                time.monotonic() - oldest.since,
            )

    def _is_news(self, session: Session, key: int) -> bool:
        """Say whether a warning was not given yet."""
        entry = (session.number, key)
        if entry in self._warned:
            return False
        self._warned.add(entry)
        if len(self._warned) > _MANY_WARNINGS:
            self._warned = {entry}
        return True

    def _warn_of_late_acks(self, name: str, consumer: Consumer, session: Session) -> None:
        policy = self._policy
        oldest = session.settlement.oldest()
        if not policy.ack_timeout or oldest is None:
            return
        age = time.monotonic() - oldest.since
        if age < policy.ack_timeout * policy.ack_timeout_warning:
            return
        if self._is_news(session, oldest.tag):
            LOG.warning(
                "consumer %r: delivery %d of queue %r is unsettled for %.0f s; after %.0f s the "
                "broker closes the channel and delivers it again",
                name,
                oldest.tag,
                session.queue,
                age,
                policy.ack_timeout,
            )

    def _relieve(self, name: str, consumer: Consumer) -> None:
        """Give back what waits behind callbacks that have run for long."""
        running = consumer.dispatcher.running()
        if len(running) < consumer.registration.concurrency or not consumer.waiting_count():
            return
        age = time.monotonic() - running[0].since
        if age >= self._policy.slow_callback_after:
            count = consumer.yield_to_others()
            if count:
                LOG.warning(
                    "consumer %r: its callback has run for %.0f s; %d messages that waited "
                    "behind it were given back for other workers",
                    name,
                    age,
                    count,
                )
