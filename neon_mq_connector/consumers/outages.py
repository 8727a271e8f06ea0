"""The outages of a consumer: which attempts count, how long to pause, and who hears of them."""

from __future__ import annotations

import logging
import time

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.runner import CallbacksEndedError, HandlingError
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ConnectionLostError,
    MQConnectionError,
    PublishLostError,
    VhostAccessError,
)
from neon_mq_connector.link.translate import refused_for_good
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.topology import ACCESS_REFUSED

LOG = logging.getLogger("neon_mq_connector.consumers")

#: How long after a loss a connection counts as unstable, in seconds.
_STABLE_AFTER = 10.0


class Outages:
    """What is remembered of the attempts to consume. Owned by the consumer's thread.

    Args:
        attempts: how many may fail in a row, those at which no broker was there not counted; below
            0 for any number.
        backoff: says how long to pause.

    Attributes:
        never_attached: whether no attempt has succeeded yet.
        was_told: whether the user has heard of this outage, of which he is told once.
        needs_patience: whether a quick attempt would meet what the last one has met.
        backoff: the same.
        refusal: why the broker refuses the connection for good, if it does.
    """

    def __init__(self, attempts: int, backoff: OutageBackoff) -> None:
        self.never_attached = True
        self.needs_patience = False
        self.backoff = backoff
        self.refusal: MQConnectionError | None = None
        self._attempts = attempts
        self._began: float | None = None
        self._failed = 0
        self.was_told = False
        self._refused = False
        self._lost_at: float | None = None

    def attached(self, queue: str, vhost: str) -> None:
        """Note the end of an outage, or that there was none; the log tells of what is news."""
        if self.never_attached or self._began is not None:
            LOG.info("consuming %r on %r", queue, vhost, extra=log_fields(queue, vhost))
        self.never_attached = False
        self._began = None
        self._failed = 0
        self.was_told = self._refused = False

    def stopped(self, queue: str, vhost: str, handled: int, failed: int) -> None:
        """Log the end of a consumer that has consumed."""
        if not self.never_attached:
            counts = f"{handled} handled" + (f", {failed} failed" if failed else "")
            fields = log_fields(queue, vhost)
            LOG.info("queue %r on %r: stopped, %s", queue, vhost, counts, extra=fields)

    def lost(self, error: BaseException) -> bool:
        """Note that a connection was lost, or an attempt has failed.

        Returns:
            Whether to go on has no sense.
        """
        # while the broker is away nothing can be parked; it is tried again when it is back
        cannot_park = isinstance(error, ParkingError) and not isinstance(
            error.__cause__, (MQConnectionError, PublishLostError)
        )
        self.needs_patience = cannot_park or isinstance(error, HandlingError)
        self._lost_at = time.monotonic()
        if self._began is None:
            self._began = self._lost_at
        final = self.never_attached and _is_refused_for_good(error)
        if final and isinstance(error, (AuthenticationError, VhostAccessError)):
            self.refusal = error
        final = final or isinstance(error, CallbacksEndedError)
        if not isinstance(error, (BrokerUnreachableError, ConnectionLostError, ParkingError)):
            # a broker that is away says nothing of this consumer: such attempts do not count
            final = final or 0 <= self._attempts <= self._failed
            self._failed += 1
        return final

    def is_refused_anew(self, error: BaseException) -> bool:
        """Whether the broker refuses, for the first time in this outage: to wait may not help."""
        before, refused = self._refused, _is_refused_for_good(error)
        self._refused = before or refused
        return refused and not before

    def pause(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        if self.needs_patience or self._began is None or self._lost_at is None:
            return self.backoff.ceiling
        return self.backoff.delay(self._lost_at - self._began)

    def is_unstable(self) -> bool:
        """Whether a connection was lost a short while ago."""
        lost_at = self._lost_at
        return lost_at is not None and time.monotonic() - lost_at < _STABLE_AFTER


class ConsumerObserver:
    """Hear of the connection of one consumer, on the consumer's thread; methods must not raise.

    This one takes no notice, and has each outage told as soon as it begins.
    """

    #: Whether the consumer may change its connection by itself, without being `closed`.
    bears_moves = True

    def opened(self, session: Session) -> None:
        """Take note that the consumer is attached; no message has been handled yet."""

    def attempt_failed(self, error: BaseException) -> None:
        """Take note that an attempt to attach has failed."""

    def closed(self, session: Session, error: BaseException) -> None:
        """Take note that what was opened is closed, by an outage or a stop."""

    def is_to_be_told(self, error: BaseException) -> bool:
        """Say whether the user is to be told of an outage now; asked until the answer is yes.

        Args:
            error: what the outage began with, or what the latest attempt has met.
        """
        return True


def _is_refused_for_good(error: BaseException) -> bool:
    """Say whether the broker is up and this user may not do what a first attach needs."""
    if refused_for_good(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "code", getattr(cause, "reply_code", None)) == ACCESS_REFUSED:
            return True
        cause = cause.__cause__
    return False
