"""An outage of a broker as the log tells it: one line when it begins and one when it is over.

Many connections, timers and consumers notice the same outage. Each reports here, and the first
and the last of them are logged.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.errors import MQConnectionError, PublishLostError, PublishTimeoutError
from neon_mq_connector.link.translate import servers

LOG = logging.getLogger("neon_mq_connector.link")

#: What fails in an outage, and may be tried again after it.
_OF_AN_OUTAGE = (
    MQConnectionError,
    PublishLostError,
    PublishTimeoutError,
    pika_errors.AMQPConnectionError,
)


class Outage:
    """Whether a virtual host can be reached; every method may be called from any thread.

    `_lock` owns what is down, and since when.
    """

    def __init__(self, where: str, vhost: str) -> None:
        self._where = where
        self._vhost = vhost
        self._lock = threading.Lock()
        self._down: set[object] = set()
        self._since = 0.0

    def begin(self, source: object, error: BaseException, *, if_first: bool = False) -> None:
        """Note that something, such as a connection, cannot reach the broker.

        With `if_first` the call is ignored where the outage is known already.
        """
        with self._lock:
            is_first = not self._down
            if is_first or not if_first:
                self._down.add(source)
            if is_first:
                self._since = time.monotonic()
        if is_first:
            LOG.warning(
                "outage of the broker at %s, virtual host %r: %s; it is tried again until "
                "it is back",
                self._where,
                self._vhost,
                error,
                extra={"mq_vhost": self._vhost},
            )

    def end(self, source: object, *, is_back: bool = True) -> None:
        """Note that something has reached the broker again, or that it no longer tries."""
        with self._lock:
            was_down = source in self._down
            self._down.discard(source)
            is_last = was_down and not self._down
        if is_last and is_back:
            LOG.info(
                "the broker at %s, virtual host %r, is back after %.1f s",
                self._where,
                self._vhost,
                time.monotonic() - self._since,
                extra={"mq_vhost": self._vhost},
            )

    @contextmanager
    def seen_by(self, source: object) -> Iterator[None]:
        """Note what a block meets that is tried again later; its outage is logged here only."""
        try:
            yield
        except _OF_AN_OUTAGE as error:
            self.begin(source, error, if_first=True)
            LOG.debug("%s: %r", source, error)
        else:
            self.end(source)


_known: dict[tuple[object, ...], Outage] = {}


def outage_of(parameters: Sequence[pika.ConnectionParameters]) -> Outage:
    """Return what is known of the outages of a virtual host, for a user, in this process."""
    where, first = servers(parameters), parameters[0]
    user = getattr(first.credentials, "username", None)
    # in a child after a fork nothing is down, and a lock may have been held
    key = (os.getpid(), where, first.virtual_host, user)
    return _known.setdefault(key, Outage(where, first.virtual_host))
