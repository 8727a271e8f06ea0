"""Whether an answer that is sent in parts is still read.

A requester that has stopped reading has deleted its reply queue; one that has gone has no channel
for direct reply-to any more. The broker tells of neither by itself: such answers cannot be
mandatory, since one to a live direct reply-to is returned as well. But a passive declare tells
whether the name exists, and whether the queue has a consumer, which it has not where the process of
the requester was killed.
"""

from __future__ import annotations

import time

from pika.spec import NOT_FOUND

from neon_mq_connector.consumers.session import Session
from neon_mq_connector.envelope import REPLY_QUEUE_PREFIX
from neon_mq_connector.errors import ReaderGoneError
from neon_mq_connector.topology import QueueStatus, Refusal

#: How often the broker is asked, in seconds.
_INTERVAL = 0.5


class Reader:
    """The reader of the parts of one answer; used by one thread at a time.

    `_is_gone` is set by the control connection's thread.

    Args:
        session: the session on which the request came.
        queue: the reply queue or direct reply-to name that the parts are sent to.
    """

    __slots__ = ("_due", "_is_gone", "_queue", "_session")

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue
        self._due = time.monotonic() + _INTERVAL
        self._is_gone = False

    def check(self) -> None:
        """Ask the broker from time to time, without waiting for its answer.

        Raises:
            ReaderGoneError: it has answered that the parts are not read.
        """
        if self._is_gone:
            raise ReaderGoneError(f"the parts of an answer to {self._queue!r} are read no longer")
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _INTERVAL
        connections = self._session.connections
        timeout = connections.policy.operation_timeout
        connections.control.look_up(self._queue, self, timeout=timeout)

    def resolve(self, status: QueueStatus | None) -> None:
        """Note that the name exists; clients of other kinds may read without a consumer."""
        if status is not None and self._queue.startswith(REPLY_QUEUE_PREFIX):
            self._is_gone = not status.consumers

    def fail(self, error: BaseException) -> None:
        """Note that the name does not exist, if that is the error."""
        self._is_gone = isinstance(error, Refusal) and error.code == NOT_FOUND
