"""What becomes of a message whose callback raised: held and tried again, then parked.

Held messages wait in this process, unsettled, while those behind them are handled. They lose their
place in the order and take part of the prefetch; when they fill half of it, more are parked early.
What cannot be parked is kept as well, and parked when that is possible again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.attempts import LateAcks, rejections
from neon_mq_connector.consumers.parked_form import FailedMessage
from neon_mq_connector.consumers.parking import Parking, ParkingError
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.consumers.settlement import OpenDelivery, Verdict
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.link import Delivery

LOG = logging.getLogger("neon_mq_connector.consumers")

#: How long a message that was dead-lettered back to its queue waits before it is rejected again.
_REJECT_AGAIN = ExponentialBackoff()


@dataclass(order=True)
class Held:
    """A message that waits, unsettled; of two that are due, the one that was held first.

    Attributes:
        due: until when, on the monotonic clock, in seconds.
        number: for the order.
        session: the generation it was delivered on; when that has ended the broker delivers again.
        delivery: the message.
        attempt: which try the next one is; 0 when it is to be rejected.
    """

    due: float
    number: int
    session: Session = field(compare=False)
    delivery: Delivery = field(compare=False)
    attempt: int = field(compare=False)


class Kept(NamedTuple):
    """A message that could not be parked.

    Attributes:
        failed: the message.
        session: where it is to be acknowledged; None when it is acknowledged already.
    """

    failed: FailedMessage
    session: Session | None

    @property
    def delivery(self) -> Delivery:
        """The message as it came."""
        return self.failed.delivery


class FailurePolicy:
    """Decide on failed messages, and keep those that are tried again or cannot be parked.

    `_lock` owns `_held` and `_kept`; only the consumer's thread takes out of them. `late_acks` is
    written by the I/O thread.

    Args:
        registration: the policy and the name of the dead-letter queue.
        connections: how to reach that queue.
        wake: has the consumer's thread look at what is due.

    Attributes:
        parked: how many messages were parked.
        trouble: why nothing can be parked, while that is so.
        late_acks: which messages were not acknowledged in the broker's time.
    """

    def __init__(
        self, registration: Registration, connections: Connections, wake: Callable[[], object]
    ) -> None:
        self.parked = 0
        self.trouble: ParkingError | None = None
        self.late_acks = LateAcks()
        self._registration = registration
        self._connections = connections
        self._wake = wake
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self._kept: deque[Kept] = deque()
        self._trouble_since = 0.0
        self._park_at = 0.0
        self._numbers = itertools.count()
        self._stopping = False
        dead_queue = registration.dead_queue
        self._parking = (
            Parking(registration.queue.name, dead_queue, registration.parked_max_length)
            if dead_queue and registration.retry.park
            else None
        )

    @property
    def held(self) -> int:
        """How many messages wait for another try, or until they can be parked."""
        return len(self._held) + len(self._kept)

    # -- the consumer's thread -----------------------------------------------------------------

    def next_due(self) -> float | None:
        """In how many seconds there is something to do; None when nothing waits."""
        with self._lock:
            times = [self._held[0].due] if self._held else []
            if self._kept:
                times.append(self._park_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def pop_due(self, session: Session) -> Held | None:
        """Take out a message that is to be tried again now; None when there is none.

        What is to be rejected is. What came on a session that has ended is dropped.
        """
        while True:
            with self._lock:
                if not self._held or self._held[0].due > time.monotonic():
                    return None
                held = heapq.heappop(self._held)
            if held.session is not session:
                continue
            if held.attempt:
                return held
            session.settlement.send(held.delivery.method.delivery_tag, Verdict.REJECT)

    def park_due(self) -> None:
        """Park what is kept, if it is time to try that again."""
        if self._kept and time.monotonic() >= self._park_at:
            with contextlib.suppress(ParkingError):  # it is kept on, and the trouble shows
                self._park_kept()

    def before_attach(self) -> None:
        """Have what is kept parked soon; at once if there is too much of it.

        Raises:
            ParkingError: there still is.
        """
        self._drop_unacknowledged()
        self._park_at = 0.0
        if not self._kept:
            self.trouble = None
        elif self._is_full():
            self._park_kept()

    def release(self, session: Session, deadline: float) -> None:
        """Give back what is not acknowledged; what is gets a last chance to be parked.

        Args:
            session: the latest; what came on others the broker has taken back.
            deadline: until when the consumer has to end, on the monotonic clock.
        """
        for each in self._drop_unacknowledged():
            if each.session is session:
                session.settlement.send(each.delivery.method.delivery_tag, Verdict.NACK_AND_REQUEUE)
        try:
            self._park_kept(deadline)
        except ParkingError as error:
            LOG.error("%d messages that failed are lost: %s", len(self._kept), error)
            self._kept.clear()

    def _drop_unacknowledged(self) -> Sequence[Held | Kept]:
        """Take out what the broker takes back with its channel."""
        with self._lock:
            kept, self._kept = self._kept, deque(x for x in self._kept if x.session is None)
            held, self._held = self._held, []
        return *held, *(each for each in kept if each.session is not None)

    def _park_kept(self, deadline: float | None = None) -> None:
        """Park what is kept, in order.

        Args:
            deadline: until when the consumer has to end, if it has, on the monotonic clock.

        Raises:
            ParkingError: that is not possible; the rest stays.
        """
        timeout = self._connections.policy.operation_timeout
        try:
            while self._kept:
                session = self._kept[0].session
                if session is None or session.is_attached:
                    left = timeout if deadline is None else time_left(deadline) / 2
                    self._park(self._kept[0], left)
                with self._lock:
                    self._kept.popleft()
        except ParkingError as error:
            self.trouble = error
            with self._lock:
                self._kept.rotate(-1)  # one that nothing helps must not hold up the others
            now = time.monotonic()
            self._park_at = now + self._connections.policy.backoff.delay(now - self._trouble_since)
            raise
        self.trouble = None

    # -- any thread ----------------------------------------------------------------------------

    def stop_holding(self) -> None:
        """From now on give a failed message back instead of holding it."""
        self._stopping = True

    def failed(self, session: Session, item: OpenDelivery, error: BaseException) -> None:
        """Deal with a message that is not settled, and was claimed by the caller."""
        retry = self._registration.retry
        tries = item.attempt + rejections(item.delivery.properties, session.queue)
        if tries >= retry.attempts or isinstance(error, DecodeError):
            self._give_up(session, item, error, tries)
        elif self._stopping:
            session.settlement.send(item.tag, Verdict.NACK_AND_REQUEUE)
        elif self.held >= max(1, self._registration.prefetch_count // 2):
            self._give_up(session, item, error, tries)
        else:
            self._hold(session, item, retry.delay(item.attempt), item.attempt + 1)

    def give_up(self, session: Session, item: OpenDelivery, error: BaseException) -> None:
        """Park a message that is not to be tried (again), or have the broker dead-letter it."""
        tries = max(item.attempt, self.late_acks.count(item.delivery))
        self._give_up(session, item, error, tries)

    def failed_acknowledged(
        self, session: Session, delivery: Delivery, error: BaseException
    ) -> None:
        """Park a message that was acknowledged on receipt, now or as soon as that is possible."""
        if self._parking is not None:
            self._park_or_keep(session, Kept(FailedMessage.of(delivery, error, 1), None))

    def _hold(self, session: Session, item: OpenDelivery, delay: float, attempt: int) -> None:
        due = time.monotonic() + delay
        with self._lock:
            heapq.heappush(
                self._held, Held(due, next(self._numbers), session, item.delivery, attempt)
            )
        self._wake()

    def _give_up(
        self, session: Session, item: OpenDelivery, error: BaseException, tries: int
    ) -> None:
        if self._parking is None:
            self._reject(session, item)
            return
        kept = Kept(FailedMessage.of(item.delivery, error, tries), session)
        if not self._registration.reject_when_unparkable:
            self._park_or_keep(session, kept)
            return
        try:
            self._park(kept, self._connections.policy.operation_timeout)
        except ParkingError as failure:
            LOG.error("%s; it is rejected", failure)
            self._reject(session, item)

    def _reject(self, session: Session, item: OpenDelivery) -> None:
        """Reject a message; one that came back by dead-lettering after a while only.

        All that wait so are among the prefetch: it would else be a loop as fast as the broker.
        """
        deaths = rejections(item.delivery.properties, session.queue)
        if deaths and not self._stopping:
            self._hold(session, item, _REJECT_AGAIN.delay(deaths), 0)
        else:
            session.settlement.send(item.tag, Verdict.REJECT)

    def _park_or_keep(self, session: Session, kept: Kept) -> None:
        """Park a message, or keep it; the consumer pauses when there is no room for more."""
        policy, trouble, now = self._connections.policy, self.trouble, time.monotonic()
        if trouble is None:
            try:
                self._park(kept, policy.operation_timeout)
                return
            except ParkingError as error:
                trouble = error
        with self._lock:
            self._kept.append(kept)
            if self.trouble is None:
                self.trouble = trouble
                self._trouble_since = now
                self._park_at = time.monotonic() + policy.backoff.floor
                LOG.error("%s; it is kept until it can", trouble)
        self._wake()
        if self._is_full():
            full = ParkingError(f"{trouble}; {len(self._kept)} such messages are kept, no more")
            full.__cause__ = trouble.__cause__
            session.fail(full)  # from here on no callback starts

    def _is_full(self) -> bool:
        """Whether no more is to be kept; what is not acknowledged is among the prefetch."""
        registration = self._registration
        with self._lock:
            acknowledged = sum(each.session is None for each in self._kept)
            size = sum(len(each.delivery.body) for each in self._kept)
        return acknowledged >= registration.prefetch_count or size >= registration.inbox_max_bytes

    def _park(self, kept: Kept, timeout: float) -> None:
        assert self._parking is not None
        self._parking.park(self._connections, kept.failed, timeout)
        self.parked += 1
        if kept.session is not None:
            kept.session.settlement.send(kept.delivery.method.delivery_tag, Verdict.ACK)
