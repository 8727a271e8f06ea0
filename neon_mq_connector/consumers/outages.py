"""The outages of a consumer: which attempts count, how long to pause, and when users are told."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from pika.spec import ACCESS_REFUSED

from neon_mq_connector.consumers.parking import ParkingError
from neon_mq_connector.consumers.runner import CallbacksEndedError, HandlingError
from neon_mq_connector.consumers.session import Host
from neon_mq_connector.errors import (
    AuthenticationError,
    BrokerUnreachableError,
    ChannelShutError,
    ConnectionLostError,
    MQConnectionError,
    PublishLostError,
    VhostAccessError,
)
from neon_mq_connector.link.translate import refused_for_good
from neon_mq_connector.log_fields import log_fields

LOG = logging.getLogger("neon_mq_connector.consumers")

#: How long after a loss a connection counts as unstable, in seconds.
_STABLE_AFTER = 10.0


class Outages:
    """Count and time the attempts to consume. Owned by the consumer's thread.

    Attempts at which no broker was there do not count as failed.

    Args:
        told_after: returns how many attempts to connect must have failed in a row before the user
            is told of an outage.

    Attributes:
        never_attached: whether no attempt has succeeded yet.
        needs_patience: whether the next attempt has to wait for as long as possible.
        refusal: why the broker refuses the connection for good, if it does.
    """

    def __init__(self, host: Host, told_after: Callable[[], int]) -> None:
        self.never_attached = True
        self.needs_patience = False
        self.refusal: MQConnectionError | None = None
        self._backoff = host.connections.policy.backoff
        self._vhost = host.connections.vhost
        self._attempts = host.registration.restart_attempts
        self._told_after = told_after
        self._began: float | None = None
        self._failed = 0
        self._unconnected = 0
        self._was_told = False
        self._refused = False
        self._lost_at = -math.inf

    def attached(self, queue: str) -> None:
        """Note that the consumer consumes; log it where it did not before."""
        if self.never_attached or self._began is not None:
            fields = log_fields(queue, self._vhost)
            LOG.info("consuming %r on %r", queue, self._vhost, extra=fields)
        self.never_attached = False
        self._began = None
        self._failed = self._unconnected = 0
        self._was_told = self._refused = False

    def stopped(self, queue: str, handled: int, failed: int) -> None:
        """Log the end of a consumer that has consumed."""
        if not self.never_attached:
            counts = f"{handled} handled" + (f", {failed} failed" if failed else "")
            fields = log_fields(queue, self._vhost)
            LOG.info("queue %r on %r: stopped, %s", queue, self._vhost, counts, extra=fields)

    def lost(self, error: BaseException) -> bool:
        """Note a loss, or an attempt that has failed; return whether the consumer has to end."""
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

    def attempt_failed(self, error: BaseException) -> bool:
        """Note that an attempt to attach has failed; return whether a hook is called for it."""
        if not _is_of_the_connection(error):
            return False
        self._unconnected += 1
        return self._unconnected <= max(1, self._told_after())

    def is_to_be_told(self, error: BaseException) -> bool:
        """Whether the user is to be told of an error: once per outage, and of a first refusal."""
        is_first_refusal = not self._refused and _is_refused_for_good(error)
        self._refused = self._refused or is_first_refusal
        if self._was_told and not is_first_refusal:
            return False
        is_told = not _is_of_the_connection(error) or self._unconnected >= self._told_after()
        self._was_told = self._was_told or is_told
        return is_told

    def pause(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        began = self._lost_at if self._began is None else self._began
        if self.needs_patience:
            return self._backoff.ceiling
        return self._backoff.delay(self._lost_at - began)

    def is_unstable(self) -> bool:
        """Whether a connection was lost a short while ago."""
        return time.monotonic() - self._lost_at < _STABLE_AFTER


def _is_of_the_connection(error: BaseException) -> bool:
    """Whether there is no connection; a channel may be shut while there is one."""
    return isinstance(error, MQConnectionError) and not isinstance(error, ChannelShutError)


def _is_refused_for_good(error: BaseException) -> bool:
    """Whether the broker is up and this user may not do what a first attach needs."""
    if refused_for_good(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "code", getattr(cause, "reply_code", None)) == ACCESS_REFUSED:
            return True
        cause = cause.__cause__
    return False
