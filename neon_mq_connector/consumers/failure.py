"""What becomes of a message whose callback raised: held and tried again, then parked.

Held messages wait in this process, unsettled, while those behind them are handled. They lose their
place in the order and take part of the prefetch. When they fill half of it, more are parked early,
unless they failed because a broken line has lost their answers. Messages that cannot be parked are
kept, and parked as soon as that is possible.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers.attempts import ack_timeout, rejections
from neon_mq_connector.consumers.parking import FailedMessage, ParkingError, park
from neon_mq_connector.consumers.session import Host, ReceivedMessage, Session
from neon_mq_connector.consumers.settlement import Outcome
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    DecodeError,
    EncodeError,
    InvalidAnswerError,
    PublishLostError,
    PublishRefusedError,
    RequestRefusedError,
)
from neon_mq_connector.link import Delivery, ignore

LOG = logging.getLogger("neon_mq_connector.consumers")

#: What fails with one of these would fail again: the request, or what the callback makes of it.
_LASTING = (
    DecodeError,
    EncodeError,
    InvalidAnswerError,
    PublishRefusedError,
    RequestRefusedError,
)
#: How long a message that was dead-lettered back to its queue waits before it is rejected again.
_REJECT_AGAIN = ExponentialBackoff()


#: A message that waits, unsettled: until when, on the monotonic clock; a number for the order; and
#: the message. Its `attempt` is the next one, 0 when it is to be rejected.
_Held = tuple[float, int, ReceivedMessage]


class FailurePolicy:
    """Decide on failed messages, and keep those that are tried again or cannot be parked.

    `_lock` owns `_held` and `_kept`; only the consumer's thread takes out of them. `_late_acks` is
    written by the I/O thread; each entry costs the broker's whole patience, so there are few.

    Attributes:
        parked: how many messages were parked.
        trouble: why nothing can be parked, while that is so.
    """

    def __init__(self, host: Host) -> None:
        self.parked = 0
        self.trouble: ParkingError | None = None
        self._late_acks: Counter[object] = Counter()
        self._host = host
        self._registration = registration = host.registration
        self._policy = host.connections.policy
        self._lock = threading.Lock()
        self._held: list[_Held] = []
        self._kept: list[FailedMessage] = []
        self._trouble_since = 0.0
        self._park_at = 0.0
        self._numbers = itertools.count()
        self._stopping = False
        self._parks = bool(registration.dead_queue and registration.retry.park)

    @property
    def held(self) -> int:
        """How many messages wait for another try, or until they can be parked."""
        return len(self._held) + len(self._kept)

    # -- the consumer's thread -----------------------------------------------------------------

    def next_due(self) -> float:
        """In how many seconds there is something to do with what waits."""
        with self._lock:
            due = self._held[0][0] if self._held else math.inf
            if self._kept:
                due = min(due, self._park_at)
        return time_left(due)

    def pop_due(self) -> ReceivedMessage | None:
        """Remove and return a message that is to be tried again now; None when there is none.

        Messages that are due to be rejected are. Those of a session that has ended are dropped.
        """
        while True:
            with self._lock:
                if not self._held or self._held[0][0] > time.monotonic():
                    return None
                due, _number, message = heapq.heappop(self._held)
            if not message.session.is_attached:
                continue
            if message.attempt:
                message.arrived = due
                return message
            message.session.settlement.send(message, Outcome.REJECT)

    def park_due(self) -> None:
        """Park the messages that are kept, if it is time to try that again."""
        if self._kept and time.monotonic() >= self._park_at:
            with contextlib.suppress(ParkingError):  # they are kept on, and the trouble shows
                self._park_kept(self._policy.operation_timeout)

    def before_attach(self) -> None:
        """Forget what the broker delivers again, and park what is kept if no more may be kept.

        Raises:
            ParkingError: it cannot be parked.
        """
        with self._lock:
            self._held = [each for each in self._held if each[2].session.is_attached]
            heapq.heapify(self._held)
            self._kept = [each for each in self._kept if not each.is_taken_back]
        self._park_at = 0.0
        if not self._kept:
            self.trouble = None
        elif self._is_full():
            self._park_kept(self._policy.operation_timeout)

    def release(self, deadline: float) -> None:
        """Give back unsettled messages, and try for the last time to park the others."""
        with self._lock:
            unsettled = [message for _due, _number, message in self._held]
            unsettled += [each.message for each in self._kept if each.message is not None]
            self._held = []
            self._kept = [each for each in self._kept if each.message is None]
        for message in unsettled:
            message.session.settlement.send(message, Outcome.NACK_AND_REQUEUE)
        try:
            self._park_kept(time_left(deadline) / 2)
        except ParkingError as error:
            LOG.error("%d messages that failed are lost: %s", len(self._kept), error)
            self._kept.clear()

    def _park_kept(self, timeout: float) -> None:
        """Park all messages that are kept; those that cannot be are kept on."""
        kept = list(self._kept)
        left = self._park([each for each in kept if not each.is_taken_back], timeout)
        with self._lock:
            self._kept[: len(kept)] = [each for each, _error in left]  # others may have been added
        self.trouble = left[0][1] if left else None
        if self.trouble is not None:
            now = time.monotonic()
            self._park_at = now + self._policy.backoff.delay(now - self._trouble_since)
            raise self.trouble

    # -- any thread ----------------------------------------------------------------------------

    def session_ended(self, session: Session, error: BaseException) -> None:
        """Note which message was not acknowledged in time, if that has ended a session."""
        waited, oldest = ack_timeout(error), session.settlement.oldest()
        if waited is None or oldest is None:
            return
        if time.monotonic() - oldest.started > waited / 2:
            self._late_acks[_fingerprint(oldest)] += 1

    def late_acks(self, message: ReceivedMessage) -> int:
        """Return how often the broker has waited in vain for the ack of a message."""
        return self._late_acks[_fingerprint(message)] if self._late_acks else 0

    def stop_holding(self) -> None:
        """Give failed messages back from now on, instead of holding them."""
        self._stopping = True

    def is_last_try(self, message: ReceivedMessage, error: BaseException) -> bool:
        """Whether a message that has failed is not to be tried again."""
        tries = message.attempt + _rejections(message)
        is_final = message.is_partly_answered or isinstance(error, _LASTING)
        if is_final or tries >= self._registration.retry.attempts:
            return True
        if self._stopping or isinstance(error, PublishLostError):
            return False  # with a lost line all answers are lost at once; the prefetch bounds them
        return self.held >= max(1, self._registration.prefetch_count // 2)

    def has_come_back(self, message: ReceivedMessage) -> bool:
        """Whether a message was rejected before and brought back by dead-lettering."""
        is_rejected = not self._parks or self._registration.reject_when_unparkable
        return is_rejected and _rejections(message) > 0

    def try_again(self, message: ReceivedMessage) -> None:
        """Hold a message until its next try; the caller has claimed it."""
        if self._stopping:
            message.session.settlement.send(message, Outcome.NACK_AND_REQUEUE)
        else:
            delay = self._registration.retry.delay(message.attempt)
            self._hold(message, delay, message.attempt + 1)

    def give_up(self, message: ReceivedMessage, error: BaseException) -> None:
        """Park a message, or reject it where nothing is parked; the caller has claimed it."""
        if not self._parks:
            self._reject(message)
            return
        tries = max(message.attempt + _rejections(message), self.late_acks(message))
        failed = FailedMessage.of(_delivery(message), error, tries, message)
        if not self._registration.reject_when_unparkable:
            self._park_or_keep(message.session, failed)
            return
        for _failed, failure in self._park([failed], self._policy.operation_timeout):
            LOG.error("%s; it is rejected", failure)
            self._reject(message)

    def failed_acknowledged(self, message: ReceivedMessage, error: BaseException) -> None:
        """Park a message that was acknowledged on receipt, or keep it until that is possible."""
        if not self._parks:
            return
        failed = FailedMessage.of(_delivery(message), error, 1)
        if self._stopping:  # there may be many at once: `release` parks them together
            with self._lock:
                self._kept.append(failed)
        else:
            self._park_or_keep(message.session, failed)

    def _hold(self, message: ReceivedMessage, delay: float, attempt: int) -> None:
        message.attempt = attempt
        with self._lock:
            due = time.monotonic() + delay
            heapq.heappush(self._held, (due, next(self._numbers), message))
        self._host.call_soon(ignore)

    def _reject(self, message: ReceivedMessage) -> None:
        """Reject a message; one that came back by dead-lettering is held before.

        Rejected at once it would be a loop as fast as the broker. Here the prefetch bounds it.
        """
        deaths = _rejections(message)
        if deaths and not self._stopping:
            self._hold(message, _REJECT_AGAIN.delay(deaths), 0)
        else:
            message.session.settlement.send(message, Outcome.REJECT)

    def _park_or_keep(self, session: Session, failed: FailedMessage) -> None:
        """Park a message or keep it; the consumer pauses when there is no room for more."""
        trouble, now = self.trouble, time.monotonic()
        if trouble is None:
            left = self._park([failed], self._policy.operation_timeout)
            if not left:
                return
            trouble = left[0][1]
        with self._lock:
            self._kept.append(failed)
            if self.trouble is None:
                self.trouble = trouble
                self._trouble_since = now
                self._park_at = time.monotonic() + self._policy.backoff.floor
                LOG.error("%s; it is kept until it can", trouble)
        self._host.call_soon(ignore)
        if self._is_full():
            full = ParkingError(f"{trouble}; {len(self._kept)} such messages are kept, no more")
            full.__cause__ = trouble.__cause__
            session.fail(full)  # from here on no callback starts

    def _is_full(self) -> bool:
        """Whether no more may be kept; the prefetch bounds those that are not acknowledged."""
        registration = self._registration
        with self._lock:
            acknowledged = sum(each.message is None for each in self._kept)
            size = sum(len(each.delivery.body) for each in self._kept)
        return acknowledged >= registration.prefetch_count or size >= registration.inbox_max_bytes

    def _park(
        self, batch: Sequence[FailedMessage], timeout: float
    ) -> list[tuple[FailedMessage, ParkingError]]:
        """Park messages, and acknowledge those that are; return the others, and why."""
        left = []
        deadline = time.monotonic() + timeout
        # where the queue is missing all would come back, each to have it declared: one goes ahead
        for part in (batch[:1], batch[1:]):
            for failed, error in park(self._registration, self._host.connections, part, deadline):
                if error is not None:
                    left.append((failed, error))
                    continue
                self.parked += 1
                if failed.message is not None:
                    failed.message.session.settlement.send(failed.message, Outcome.ACK)
        return left


def _delivery(message: ReceivedMessage) -> Delivery:
    assert message.delivery is not None  # it was decoded before it could fail
    return message.delivery


def _fingerprint(message: ReceivedMessage) -> object:
    _method, properties, body = _delivery(message)
    return properties.message_id, len(body), hash(body)


def _rejections(message: ReceivedMessage) -> int:
    return rejections(_delivery(message).properties, message.session.queue)
