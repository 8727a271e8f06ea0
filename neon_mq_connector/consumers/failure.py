"""What becomes of a message whose callback raised: held and tried again, then parked.

Held messages wait in this process, unsettled, while those behind them are handled. They lose their
place in the order and take part of the prefetch; when they fill half of it, more are parked early.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.attempts import rejections
from neon_mq_connector.consumers.parking import Parking, ParkingError
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.consumers.settlement import OpenDelivery, Verdict
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.link import Delivery

LOG = logging.getLogger("neon_mq_connector.consumers")

_PARK_AGAIN = 30.0


@dataclass(order=True)
class Held:
    """A message that is tried again later; of two that are due, the one that was held first.

    Attributes:
        due: when, on the monotonic clock, in seconds.
        number: for the order.
        session: the generation it was delivered on; when that has ended the broker delivers again.
        delivery: the message.
        attempt: which try the next one is.
        to_park: what its callback raised, for a message that is acknowledged already and only has
            still to be parked.
    """

    due: float
    number: int
    session: Session = field(compare=False)
    delivery: Delivery = field(compare=False)
    attempt: int = field(compare=False)
    to_park: BaseException | None = field(default=None, compare=False)


class FailurePolicy:
    """Decide on failed messages, and keep those that are tried again.

    `_held` is owned by the consumer's thread; workers hand theirs over with `hold`. `_lock` owns
    the count, which includes what is being handed over.

    Attributes:
        parked: how many messages were parked.
        unparked: why messages that are acknowledged already are not; empty if all are.

    Args:
        registration: the policy and the name of the dead-letter queue.
        connections: how to reach that queue.
        hold: hands a message to the consumer's thread, which gives it to `keep`.
    """

    def __init__(
        self, registration: Registration, connections: Connections, hold: Callable[[Held], None]
    ) -> None:
        self.parked = 0
        self.unparked = ""
        self._registration = registration
        self._connections = connections
        self._hold = hold
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._count = 0
        self._numbers = itertools.count()
        self._stopping = False
        dead_queue = registration.dead_queue
        self._parking = (
            Parking(registration.queue.name, dead_queue, registration.parked_max_length)
            if dead_queue
            else None
        )

    @property
    def held(self) -> int:
        """How many messages wait for another try."""
        return self._count

    # -- the consumer's thread -----------------------------------------------------------------

    def keep(self, held: Held) -> None:
        """Keep a message for another try."""
        heapq.heappush(self._held, held)

    def next_due(self) -> float | None:
        """In how many seconds the next message is to be tried again; None when there is none."""
        return max(0.0, self._held[0].due - time.monotonic()) if self._held else None

    def pop_due(self) -> Held | None:
        """Take out a message that is due; None when there is none."""
        if self._held and self._held[0].due <= time.monotonic():
            with self._lock:
                self._count -= 1
            return heapq.heappop(self._held)
        return None

    def release(self, session: Session) -> None:
        """Give back what is held; what only had to be parked gets a last chance."""
        held, self._held = self._held, []
        for each in held:
            if each.to_park is not None:
                try:
                    self._park(each.delivery, each.to_park, 1)
                except ParkingError as error:
                    LOG.error("a message that failed is lost: %s", error)
            elif each.session is session:
                session.settlement.send(each.delivery.method.delivery_tag, Verdict.NACK_AND_REQUEUE)

    # -- any thread ----------------------------------------------------------------------------

    def stop_holding(self) -> None:
        """From now on give a failed message back instead of holding it."""
        self._stopping = True

    def failed(self, session: Session, item: OpenDelivery, error: BaseException) -> None:
        """Deal with a message that is not settled, and was claimed by the caller.

        Raises:
            ParkingError: it can neither be parked nor rejected; it was given back.
        """
        retry = self._registration.retry
        tries = item.attempt + rejections(item.delivery.properties, session.queue)
        if tries >= retry.attempts or isinstance(error, DecodeError):
            self._give_up(session, item, error, tries)
        elif self._stopping:
            session.settlement.send(item.tag, Verdict.NACK_AND_REQUEUE)
        elif not self._try_to_hold(
            session, item.delivery, retry.delay(item.attempt), item.attempt + 1
        ):
            self._give_up(session, item, error, tries)

    def give_up(self, session: Session, item: OpenDelivery, error: BaseException) -> None:
        """Park a message that is not to be tried (again), or have the broker dead-letter it.

        Raises:
            ParkingError: it can neither be parked nor rejected; it was given back.
        """
        self._give_up(session, item, error, item.attempt)

    def failed_acknowledged(
        self, session: Session, delivery: Delivery, error: BaseException
    ) -> None:
        """Park a message that was acknowledged on receipt, now or as soon as that is possible."""
        if self._parking is None or not self._registration.retry.park:
            return
        try:
            self._park(delivery, error, 1)
        except ParkingError as failure:
            self.unparked = str(failure)
            LOG.error("%s; trying again in %.0f s", failure, _PARK_AGAIN)
            self._try_to_hold(session, delivery, _PARK_AGAIN, 1, to_park=error)

    def _try_to_hold(
        self,
        session: Session,
        delivery: Delivery,
        delay: float,
        attempt: int,
        *,
        to_park: BaseException | None = None,
    ) -> bool:
        """Hold a message unless half of the prefetch is held; what has only to be parked always."""
        room = max(1, self._registration.prefetch_count // 2)
        with self._lock:
            if self._count >= room and to_park is None:
                return False
            self._count += 1
        due = time.monotonic() + delay
        self._hold(Held(due, next(self._numbers), session, delivery, attempt, to_park))
        return True

    def _give_up(
        self, session: Session, item: OpenDelivery, error: BaseException, tries: int
    ) -> None:
        if self._parking is None or not self._registration.retry.park:
            session.settlement.send(item.tag, Verdict.REJECT)
            return
        try:
            self._park(item.delivery, error, tries)
        except ParkingError:
            if self._registration.reject_when_unparkable:
                session.settlement.send(item.tag, Verdict.REJECT)
                return
            session.settlement.send(item.tag, Verdict.NACK_AND_REQUEUE)
            raise
        session.settlement.send(item.tag, Verdict.ACK)

    def _park(self, delivery: Delivery, error: BaseException, tries: int) -> None:
        assert self._parking is not None
        self._parking.park(self._connections, delivery, error, tries)
        self.parked += 1
        if self.unparked and not any(each.to_park for each in self._held.copy()):
            self.unparked = ""
