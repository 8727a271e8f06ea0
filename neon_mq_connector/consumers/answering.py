"""When a consumer attaches to the answering connection.

Most consumers share a connection that never publishes, so that an alarm of the broker cannot hold
up their acknowledgements. A consumer whose callbacks answer many requests moves to the answering
connection, where answers leave on the channel of their requests (`Session.answer`), or beside it
where requests are acknowledged before they are answered (`Session.publisher`).
"""

from __future__ import annotations

import time

from neon_mq_connector.consumers.flow import is_bound_to_its_place
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.link.translate import broker_refusal

#: So many answers within so many seconds are worth a move.
_MANY = 100
_SOON = 1.0


class AnsweringPolicy:
    """Decide on which connection a consumer attaches.

    Owned by the consumer's thread; `answered` is called by any thread, and counts about.

    Args:
        registration: what is consumed, and how it is acknowledged.

    Attributes:
        is_wanted: whether the consumer is to attach to the answering connection.
    """

    def __init__(self, registration: Registration) -> None:
        self.is_wanted = False
        self._is_allowed = _may_move(registration)
        self._count = 0
        self._since = 0.0

    def answered(self) -> bool:
        """Note an answer that has left by the publishing connection; return whether to move."""
        if not self._is_allowed:
            return False
        now = time.monotonic()
        if now - self._since > _SOON:
            self._since, self._count = now, 0
        self._count += 1
        return self._count == _MANY

    def lost(self, error: BaseException) -> None:
        """Stay on the consuming connection from now on, if the broker has refused an answer.

        A refused message closes the channel, or the connection, and the request comes again. On the
        publishing connection a refusal concerns the one message.
        """
        if broker_refusal(error) is not None:
            self.is_wanted = self._is_allowed = False


def _may_move(registration: Registration) -> bool:
    """Whether the queue may lose its consumer for a moment."""
    queue = registration.queue
    gone_without = queue.exclusive or queue.auto_delete or "x-expires" in queue.arguments
    is_bound = gone_without or is_bound_to_its_place(registration)
    return not is_bound
