"""Decide for each message whether its callback is to run, and what comes of that.

How callbacks are run is another's business: on threads (`workers`), or as coroutines (`aio.tasks`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from pika.spec import Basic, BasicProperties

from neon_mq_connector.consumers.attempts import delivery_count, delivery_limit
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.registration import AckMode, MessageCallback, Registration
from neon_mq_connector.consumers.runner import RunnerFactory, Running, Waiting
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.consumers.settlement import OpenDelivery, Verdict
from neon_mq_connector.consumers.workers import ThreadRunner
from neon_mq_connector.envelope import time_allowed
from neon_mq_connector.errors import FrameError, MQError
from neon_mq_connector.link import (
    Delivery,
    RawDelivery,
    decode_delivery,
    decode_method,
    delivery_tag,
)

LOG = logging.getLogger("neon_mq_connector.consumers")


#: Makes a named tuple in half the time.
_new_waiting = tuple.__new__


class DeliveryLimitError(MQError):
    """A message was delivered so often that it is parked without being tried again."""


class Acknowledging(Protocol):
    """A channel, as far as it is needed here."""

    def basic_ack(self, delivery_tag: int) -> object: ...


class Dispatcher:
    """Screen messages, have their callbacks run, and see to what comes of it.

    `_stopped` is set once, by any thread.

    Attributes:
        backlog: the messages that wait, for the runner to take; any thread may take from it.
        report: tells of an exception.

    Args:
        registration: how messages are acknowledged, and how many callbacks run side by side.
        callback: what the runner calls.
        failures: deals with messages whose callback raised.
        report: told of each exception.
        later: has the consumer's thread call something.
        name: of the consumer's thread.
        new_runner: makes what runs the callbacks.
    """

    def __init__(
        self,
        registration: Registration,
        callback: MessageCallback,
        failures: FailurePolicy,
        *,
        report: Callable[[BaseException], None],
        later: Callable[[Callable[[], object]], None],
        name: str,
        new_runner: RunnerFactory = ThreadRunner,
    ) -> None:
        self.handled = 0
        self.failed = 0
        self.expired = 0
        self.last_message: float | None = None
        self.highest_delivery_count = 0
        self.backlog: deque[Waiting] = deque()
        self._mode = registration.ack
        self._delivery_limit = delivery_limit(registration.queue.arguments)
        self._max_tries = registration.retry.attempts
        self._failures = failures
        self.report = report
        self._stopped = False
        self.runner = new_runner(
            self,
            callback,
            concurrency=registration.concurrency,
            later=later,
            name=name,
        )

    # -- the consumer's thread -----------------------------------------------------------------

    def start(self) -> None:
        """Make ready."""
        self.runner.start()

    def handle_batch(
        self, session: Session, deliveries: Sequence[RawDelivery], arrived: float
    ) -> None:
        """Handle messages in order, or see to it that they are handled.

        It may be called on an I/O thread if the runner `never_waits`.
        """
        self.backlog.extend(
            [_new_waiting(Waiting, (session, raw, arrived, 1)) for raw in deliveries]
        )
        self.runner.work_off(len(deliveries))

    def retry_due(self, session: Session) -> None:
        """Try again what is due; drop what was delivered on a session that has ended."""
        failures = self._failures
        failures.park_due()
        while not self._stopped and (held := failures.pop_due(session)) is not None:
            self.backlog.append(Waiting(session, held.delivery, held.due, held.attempt))
            self.runner.work_off(1)

    def finish(self) -> None:
        """Wait until no callback runs."""
        self.stop_starting()
        self.runner.finish()

    # -- any thread ----------------------------------------------------------------------------

    def stop_starting(self) -> None:
        """Start no callback any more; what was not started goes back when the channel closes."""
        self._stopped = True
        self._failures.stop_holding()
        self.runner.stop_starting()

    def running(self) -> list[Running]:
        """List the callbacks that are running, the oldest first."""
        running = [Running(*each) for each in dict(self.runner.running).values()]
        return sorted(running, key=lambda each: each.since)

    def give_back_older(self, before: float) -> int:
        """Return to the broker what waits since a time on the monotonic clock, in its order.

        Returns:
            How many messages were given back.
        """
        count, backlog = 0, self.backlog
        with contextlib.suppress(IndexError):  # no more waits
            while backlog[0].arrived < before:
                waiting = backlog.popleft()
                if waiting.attempt == 1:
                    waiting.session.settlement.give_back(waiting.tag)
                else:  # claimed when it failed
                    waiting.session.settlement.send(waiting.tag, Verdict.NACK_AND_REQUEUE)
                count += 1
        return count

    def publish_failed(self, session: Session, item: OpenDelivery, error: BaseException) -> None:
        """Treat a message whose callback's publish was not confirmed as one that failed."""
        self.report(error)
        self._failures.failed(session, item, error)

    # -- the runner ----------------------------------------------------------------------------

    def take_up(self, waiting: Waiting) -> Delivery | None:
        """Note that the callback of a message starts now, if it is to run at all.

        Args:
            waiting: the message.

        Returns:
            The message; None when its callback is not to run: all is done that is to be done then.
        """
        session, message, _arrived, attempt = waiting
        if self._stopped or not session.is_attached:
            if self._mode is AckMode.ON_RECEIPT:
                session.started.never_started(message)  # type: ignore[arg-type]  # one try
            return None  # the broker takes it back with the channel
        self.last_message = now = time.monotonic()
        if attempt == 1:
            try:
                delivery = decode_delivery(message)  # type: ignore[arg-type]  # not tried before
            except FrameError as error:
                self._unreadable(session, message, error)  # type: ignore[arg-type]
                return None
            method, properties, _body = delivery
            # of most messages there is nothing to ask
            suspect = properties.headers or method.redelivered
            if suspect and not self._is_wanted(waiting, delivery, now):
                return None
        else:
            delivery = message  # type: ignore[assignment]  # decoded when it was tried before
        settlement = session.settlement
        settlement.start(delivery, attempt, now)
        if self._mode is AckMode.ON_RECEIPT:
            session.started.started(message)  # type: ignore[arg-type]  # there is but one try
            settlement.acknowledge(delivery.method.delivery_tag)
        return delivery

    def returned(self, session: Session, tag: int, channel: Acknowledging) -> None:
        """Take the end of a callback that has returned.

        Args:
            session: where its message came.
            tag: the delivery tag.
            channel: the callback's, which knows what it has published.
        """
        self.handled += 1
        if self._mode is AckMode.ON_SUCCESS and session.settlement.is_open(tag):
            channel.basic_ack(tag)

    def raised(self, session: Session, delivery: Delivery, error: BaseException) -> None:
        """Take the end of a callback that has raised."""
        self.failed += 1
        self.runner.aside(partial(self._deal_with, session, delivery, error))

    def cancelled(self, session: Session, delivery: Delivery, error: BaseException) -> None:
        """Take the end of a callback that a stop has cancelled: its message goes back.

        One that was acknowledged before cannot; it has failed.
        """
        if self._mode is AckMode.ON_RECEIPT:
            self.raised(session, delivery, error)
            return
        for item in session.settlement.claim(delivery.method.delivery_tag):
            session.settlement.send(item.tag, Verdict.NACK_AND_REQUEUE)

    def _deal_with(self, session: Session, delivery: Delivery, error: BaseException) -> None:
        self.report(error)
        if self._mode is AckMode.ON_RECEIPT:
            # acknowledged before it failed, by callbacks that were not written to be repeated
            self._failures.failed_acknowledged(session, delivery, error)
            return
        for item in session.settlement.claim(delivery.method.delivery_tag):
            self._failures.failed(session, item, error)

    def _give_up(self, session: Session, delivery: Delivery, error: BaseException) -> None:
        """Have a message parked that no callback is to see."""
        session.settlement.start(delivery)
        for item in session.settlement.claim(delivery.method.delivery_tag):
            self.runner.aside(partial(self._failures.give_up, session, item, error))

    def _unreadable(self, session: Session, raw: RawDelivery, error: FrameError) -> None:
        """Park a message whose properties make no sense: any sender can make such a one."""
        arguments, raw_properties, body = raw
        try:
            method = decode_method(arguments)
        except FrameError:  # a sender may choose any bytes for a routing key, too
            method = Basic.Deliver("", delivery_tag(arguments), False, "", "")
        self.failed += 1
        self.runner.aside(partial(self.report, error))
        properties = BasicProperties(headers={"neon-unreadable": raw_properties})
        self._give_up(session, Delivery(method, properties, body), error)

    def _is_wanted(self, waiting: Waiting, delivery: Delivery, now: float) -> bool:
        """Say whether a message of which there is something to ask is to be handled.

        It is settled if it is not.
        """
        session, message, arrived, _attempt = waiting
        properties, tag = delivery.properties, delivery.method.delivery_tag
        allowed = time_allowed(properties)
        if allowed is not None and now - arrived > allowed:
            self.expired += 1
            LOG.info(
                "queue %r: request %s dropped, its sender no longer waits",
                session.queue,
                properties.message_id,
            )
            session.settlement.acknowledge_unseen(tag)
            return False
        if self._mode is AckMode.ON_RECEIPT:
            lost = session.lost if delivery.method.redelivered else None
            if lost is None or not lost.recognise(message):  # type: ignore[arg-type]
                return True
            LOG.info("queue %r: a message came again whose ack was lost; dropped", session.queue)
            session.started.started(message)  # type: ignore[arg-type]  # this ack may be lost too
            session.settlement.acknowledge_unseen(tag)
            return False
        count, late = delivery_count(delivery), self._failures.late_acks.count(delivery)
        self.highest_delivery_count = max(self.highest_delivery_count, count)
        limit = self._delivery_limit
        if late >= self._max_tries:
            reason = f"its ack came too late for the broker {late} times"
        elif count and limit is not None and limit - 1 <= count <= limit:  # or else it is forged
            reason = f"delivered {count} times before; the broker drops a message after {limit}"
        else:
            return True
        self._give_up(session, delivery, DeliveryLimitError(f"queue {session.queue!r}: {reason}"))
        return False
