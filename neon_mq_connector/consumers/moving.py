"""When a consumer moves to the connection on which callbacks may answer.

Most consumers share a connection that never publishes, so that an alarm of the broker cannot hold
up their acknowledgements. One whose callbacks answer many requests is better off where an answer
leaves by the channel on which its request came (`Session.answer`), on a connection shared with
consumers of that kind only. Which ones are shows when they do it.
"""

from __future__ import annotations

import time

import pika.exceptions as pika_errors

from neon_mq_connector.consumers.flow import is_bound_to_its_place
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.topology import CONNECTION_FORCED

#: So many answers in so many seconds are worth a move: such callbacks are done soon.
_MANY = 100
_SOON = 1.0
#: How long a consumer may be without new messages because of it, in seconds.
LONGEST_MOVE = 0.25
#: A message that is unsettled for longer, in seconds, is likely to take longer than a move may.
OLDEST = 0.1
#: After a move that was given up none is tried for so many seconds, then for twice as many, and
#: so on.
_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0


class Moves:
    """Know where a consumer is to attach, and when it is worth a move.

    Owned by the consumer's thread; `answered` is called by any thread, and counts about.

    Args:
        registration: what is consumed, and how it is acknowledged.

    Attributes:
        is_there: whether it is to attach to the connection for answers.
    """

    def __init__(self, registration: Registration) -> None:
        self.is_there = False
        self._may = _may_move(registration)
        self._count = 0
        self._since = 0.0
        self._not_before = 0.0
        self._pause = _PAUSE

    def answered(self) -> bool:
        """Note an answer that has left by another connection than its request's.

        Returns:
            Whether this is the last of many.
        """
        if not self._may:
            return False
        now = time.monotonic()
        if now - self._since > _SOON:
            self._since, self._count = now, 0
        self._count += 1
        return self._count == _MANY

    def is_wanted(self) -> bool:
        """Whether a move may begin."""
        return self._may and time.monotonic() >= self._not_before

    def arrived(self) -> None:
        """Note that from here on the consumer attaches there."""
        self.is_there = True

    def given_up(self) -> None:
        """Note that a move was given up, before or after its end; another may be tried later."""
        self.is_there = False
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def lost(self, error: BaseException) -> None:
        """Look at why a session there has ended: what the broker refuses is not to be tried again.

        A message that it refuses closes the channel, or the connection; the request would come
        again, and again be answered so. On the publishing connection a refusal is told apart.
        """
        cause = error.__cause__
        if isinstance(cause, pika_errors.ChannelClosedByBroker) or (
            isinstance(cause, pika_errors.ConnectionClosedByBroker)
            and cause.reply_code != CONNECTION_FORCED
        ):
            self.is_there = self._may = False


def _may_move(registration: Registration) -> bool:
    """Say whether to end the consumer for a moment does no harm, and whether it is of use."""
    queue = registration.queue
    gone_without = queue.exclusive or queue.auto_delete or "x-expires" in queue.arguments
    is_bound = gone_without or is_bound_to_its_place(registration)
    return registration.ack is not AckMode.ON_RECEIPT and not is_bound
