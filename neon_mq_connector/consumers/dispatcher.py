"""Decide for each message whether its callback runs, and what follows when it has ended."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from pika.spec import Basic, BasicProperties

from neon_mq_connector import metrics, tracing
from neon_mq_connector.consumers.attempts import delivery_count, delivery_limit
from neon_mq_connector.consumers.error_answer import answer_error
from neon_mq_connector.consumers.failure import FailurePolicy
from neon_mq_connector.consumers.registration import AckMode
from neon_mq_connector.consumers.runner import CallbackRunner, Running
from neon_mq_connector.consumers.session import Host, ReceivedMessage, Session
from neon_mq_connector.consumers.settlement import Outcome
from neon_mq_connector.envelope import time_allowed
from neon_mq_connector.errors import FrameError, MQError, ReaderGoneError
from neon_mq_connector.link import (
    Delivery,
    RawDelivery,
    decode_delivery,
    decode_method,
    delivery_tag,
)
from neon_mq_connector.log_fields import bound_log_fields

LOG = logging.getLogger("neon_mq_connector.consumers")


class DeliveryLimitError(MQError):
    """A message was delivered so often that it is parked without being tried again."""


class Dispatcher:
    """Hand messages to their callbacks, and settle them when those have ended.

    `_stopped` is set once, by any thread.

    Attributes:
        backlog: the messages whose callback is to start; any thread may take from it.
        report, call_soon: those of the consumer, for the runner.
    """

    def __init__(
        self,
        host: Host,
        failures: FailurePolicy,
        new_runner: Callable[[Dispatcher], CallbackRunner],
    ) -> None:
        self.handled = 0
        self.failed = 0
        self.expired = 0
        self.last_message: float | None = None
        self.highest_delivery_count = 0
        self.backlog: deque[ReceivedMessage] = deque()
        self._registration = registration = host.registration
        self._acks_on_receipt = registration.ack is AckMode.ON_RECEIPT
        self._acks_on_success = registration.ack is AckMode.ON_SUCCESS
        self._label = registration.label
        self._failures = failures
        self.report = host.report
        self.call_soon = host.call_soon
        self._stopped = False
        self.runner = new_runner(self)

    @property
    def counts_deliveries(self) -> bool:
        """Whether a lost connection counts against messages that were only sent ahead.

        A quorum queue counts that, and drops what it has counted often (RabbitMQ 4.0).
        """
        arguments = self._registration.queue.arguments
        return arguments.get("x-queue-type") == "quorum" or self.highest_delivery_count > 0

    # -- the consumer's thread -----------------------------------------------------------------

    def retry_due(self) -> None:
        """Try messages again that are due, and park what can be parked again."""
        failures = self._failures
        failures.park_due()
        while not self._stopped and (message := failures.pop_due()) is not None:
            self.backlog.append(message)
            self.runner.process_backlog(1)

    # -- any thread ----------------------------------------------------------------------------

    def arrived(self, session: Session, batch: Sequence[RawDelivery]) -> None:
        """Append messages to the backlog, for the runner."""
        now = time.monotonic()
        self.backlog.extend([ReceivedMessage(session, raw, now) for raw in batch])

    def stop_starting(self) -> None:
        """Start no callback any more; the broker takes the others back with the channel."""
        self._stopped = True
        self._failures.stop_holding()
        self.runner.stop_starting()

    def fail(self, error: BaseException) -> None:
        """Raise an error on the consumer's thread, which ends the attachment to the queue."""
        self.call_soon(partial(_raise, error))

    def running(self) -> list[Running]:
        """List the callbacks that are running, the oldest first."""
        return sorted(self.runner.running(), key=lambda each: each.since)

    def give_back_older(self, seconds: float) -> int:
        """Requeue messages that have waited here for so many seconds, in order; return how many."""
        before = time.monotonic() - seconds
        count, backlog = 0, self.backlog
        with contextlib.suppress(IndexError):  # no more waits
            while backlog[0].arrived < before:
                message = backlog.popleft()
                if message.attempt == 1:
                    message.session.settlement.settle_unopened(
                        message.tag, Outcome.NACK_AND_REQUEUE
                    )
                else:  # claimed when it failed
                    message.session.settlement.send(message, Outcome.NACK_AND_REQUEUE)
                count += 1
        return count

    def release(self) -> None:
        """Give back what waits for its next try in the backlog; to be called after a stop."""
        with contextlib.suppress(IndexError):  # no more waits
            while self._stopped:
                self.admit(self.backlog.popleft())

    def publish_failed(self, message: ReceivedMessage, error: BaseException) -> None:
        """Treat a message as failed, since a publish of its callback was not confirmed."""
        with bound_log_fields(message.log_fields):
            self.report(error)
        if self._failures.is_last_try(message, error):
            self._answer_and_give_up(message, error)
        else:
            self._failures.try_again(message)

    def answer_or_park(self, message: ReceivedMessage, error: BaseException) -> None:
        """Deal with a failed message that was acknowledged on receipt.

        Such callbacks were not written to be repeated.
        """
        if not self._answer_error(message, error):
            self._failures.failed_acknowledged(message, error)

    # -- called by the runner ------------------------------------------------------------------

    def admit(self, message: ReceivedMessage) -> Delivery | None:
        """Return a message whose callback starts now; None if it is not to run: it is settled."""
        session = message.session
        if self._stopped or not session.is_attached:
            if self._acks_on_receipt:
                session.started.never_started(message.raw)
            if message.attempt > 1:  # claimed when it failed: a stop waits until it is settled
                session.settlement.send(message, Outcome.NACK_AND_REQUEUE)
            return None  # the broker takes it back with the channel
        self.last_message = message.started = time.monotonic()
        delivery = message.delivery
        if delivery is None:
            try:
                message.delivery = delivery = decode_delivery(message.raw)
            except FrameError as error:
                self._unreadable(message, error)
                return None
            may_be_unwanted = delivery.properties.headers or delivery.method.redelivered
            if may_be_unwanted and not self._is_wanted(message, delivery):
                return None
        if self._acks_on_receipt:
            session.started.started(message.raw)
            session.settlement.settle_unopened(delivery.method.delivery_tag, Outcome.ACK)
        else:
            session.settlement.start(message)
        return delivery

    def returned(self, message: ReceivedMessage, channel: Any) -> None:
        """Acknowledge the message of a callback that has returned, where that is its ack mode."""
        self.handled += 1
        if (durations := metrics.callback_seconds) is not None:
            durations.observe(self._label, time.monotonic() - message.started)
        if self._acks_on_receipt:
            if channel.publishes:
                channel.publishes.fail_if_refused(message)
        elif self._acks_on_success and message.session.settlement.is_open(message.tag):
            channel.basic_ack(message.tag)

    def raised(self, message: ReceivedMessage, error: BaseException) -> None:
        """Deal with the message of a callback that has raised."""
        if isinstance(error, ReaderGoneError):
            self._nobody_reads(message)
            return
        self.failed += 1
        if (durations := metrics.callback_seconds) is not None:
            durations.observe(self._label, time.monotonic() - message.started)
        if tracing.tracer is not None:
            tracing.tracer.failed(error)
        self.runner.run_blocking(partial(self._deal_with, message, error))

    def cancelled(self, message: ReceivedMessage, error: BaseException) -> None:
        """Requeue the message of a callback that a stop has cancelled.

        One that was acknowledged on receipt has failed.
        """
        if self._acks_on_receipt:
            self.raised(message, error)
        else:
            message.session.settlement.settle(message.tag, Outcome.NACK_AND_REQUEUE)

    def _nobody_reads(self, message: ReceivedMessage) -> None:
        """Acknowledge the message of a callback that has ended since its answer is not read."""
        LOG.info("queue %r: an answer is read no longer; its callback ends", message.session.queue)
        self.returned(message, message.channel)
        if message.session.settlement.is_open(message.tag):  # its callback was to acknowledge it
            message.channel.basic_ack(message.tag)

    def _deal_with(self, message: ReceivedMessage, error: BaseException) -> None:
        with bound_log_fields(message.log_fields):
            self.report(error)
        failures, settlement = self._failures, message.session.settlement
        if self._acks_on_receipt:
            self.answer_or_park(message, error)
        elif not settlement.is_open(message.tag):  # settled by its callback
            if message.channel is not None and message.channel.has_acked:
                self._answer_error(message, error)
        elif not failures.is_last_try(message, error):
            if settlement.claim(message.tag):
                failures.try_again(message)
        # answered before it is settled: so the answer can follow parts on its request's channel
        elif self._answer_error(message, error):
            message.channel.basic_ack(message.tag)
        elif settlement.claim(message.tag):
            failures.give_up(message, error)

    def _answer_error(self, message: ReceivedMessage, error: BaseException) -> bool:
        """Send the error answer, once for a message that dead-lettering brings back."""
        if self._failures.has_come_back(message):
            return False
        return answer_error(message, error, hide_message=self._registration.hide_error_messages)

    def _give_up(self, message: ReceivedMessage, error: BaseException) -> None:
        """Park a message without calling its callback."""
        settlement = message.session.settlement
        settlement.start(message)
        if settlement.claim(message.tag):
            self.runner.run_blocking(partial(self._answer_and_give_up, message, error))

    def _answer_and_give_up(self, message: ReceivedMessage, error: BaseException) -> None:
        self._answer_error(message, error)
        self._failures.give_up(message, error)

    def _unreadable(self, message: ReceivedMessage, error: FrameError) -> None:
        """Park a message whose properties cannot be decoded."""
        arguments, raw_properties, body = message.raw
        try:
            method = decode_method(arguments)
        except FrameError:  # a sender may choose any bytes for a routing key, too
            method = Basic.Deliver("", delivery_tag(arguments), False, "", "")
        self.failed += 1
        self.runner.run_blocking(partial(self.report, error))
        properties = BasicProperties(headers={"neon-unreadable": raw_properties})
        message.delivery = Delivery(method, properties, body)
        self._give_up(message, error)

    def _is_wanted(self, message: ReceivedMessage, delivery: Delivery) -> bool:
        """Whether the callback of a message is to run; otherwise the message is settled here."""
        session = message.session
        properties, tag = delivery.properties, delivery.method.delivery_tag
        allowed = time_allowed(properties)
        if allowed is not None and message.started - message.arrived > allowed:
            self.expired += 1
            LOG.info(
                "queue %r: request %s dropped, its sender no longer waits",
                session.queue,
                properties.message_id,
                extra=message.log_fields,
            )
            session.settlement.settle_unopened(tag, Outcome.ACK)
            return False
        if self._acks_on_receipt:
            lost = session.lost if delivery.method.redelivered else None
            if lost is None or not lost.recognise(message.raw):
                return True
            LOG.info(
                "queue %r: a message came again whose ack was lost; dropped",
                session.queue,
                extra=message.log_fields,
            )
            session.started.started(message.raw)  # this ack may be lost too
            session.settlement.settle_unopened(tag, Outcome.ACK)
            return False
        count, late = delivery_count(delivery), self._failures.late_acks(message)
        self.highest_delivery_count = max(self.highest_delivery_count, count)
        limit = delivery_limit(self._registration.queue.arguments)
        if late >= self._registration.retry.attempts:
            reason = f"its ack came too late for the broker {late} times"
        elif count and limit is not None and limit - 1 <= count <= limit:  # or else it is forged
            reason = f"delivered {count} times before; the broker drops a message after {limit}"
        else:
            return True
        self._give_up(message, DeliveryLimitError(f"queue {session.queue!r}: {reason}"))
        return False


def _raise(error: BaseException) -> NoReturn:
    raise error
