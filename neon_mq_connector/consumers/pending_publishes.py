"""What a callback has published without a confirm yet, and the acks that wait for it.

An ack that follows publishes of the same callback leaves when they are confirmed: so a request is
not acknowledged before its answer is safe. If one of them fails, its message counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.consumers.session import ReceivedMessage, Session
from neon_mq_connector.consumers.settlement import Outcome


class PendingPublishes:
    """The publishes of one callback up to its next ack; the publisher tells it the end of each.

    The session's lock `publishing` owns its state, and which of them a channel adds to.

    Args:
        session: whose messages are acked, and which is told of acks that have failed.
        report: told of each failure that no ack waits for, at once.
    """

    __slots__ = ("_errors", "_messages", "_report", "_session", "_unconfirmed")

    def __init__(self, session: Session, report: Callable[[BaseException], object]) -> None:
        self._session = session
        self._report = report
        self._unconfirmed = 0
        self._errors: list[BaseException] = []
        self._messages: list[ReceivedMessage] | None = None

    def __bool__(self) -> bool:
        """Whether an ack has to wait, or would be wrong."""
        return self._unconfirmed > 0 or bool(self._errors)

    @property
    def has_ack(self) -> bool:
        """Whether an ack waits for the confirms, or has failed with one of them."""
        return self._messages is not None

    def add(self) -> None:
        """Note a publish that is about to be made; its `resolve` or `fail` follows."""
        self._unconfirmed += 1

    def ack_when_confirmed(self, messages: list[ReceivedMessage]) -> None:
        """Send acks once all publishes are confirmed; if one is not, the messages have failed."""
        with self._session.publishing:
            self._messages = messages
        self._settle_if_ended()

    def forgive(self, error: BaseException) -> None:
        """Have no ack fail because of an error: the callback knows of it."""
        with self._session.publishing:
            if self._messages is None:
                self._errors = [each for each in self._errors if each is not error]

    def resolve(self, value: None) -> None:
        """Take a confirm, or the news that a publish was not made after all."""
        with self._session.publishing:
            self._unconfirmed -= 1
        if self._messages is not None:
            self._settle_if_ended()

    def fail(self, error: BaseException) -> None:
        """Take the failure of a publish."""
        with self._session.publishing:
            self._unconfirmed -= 1
            self._errors.append(error)
            is_unknown = self._messages is None
        if is_unknown:
            # nothing is acked on the strength of it (yet): the failure is at least told
            self._report(error)
        else:
            self._settle_if_ended()

    def _settle_if_ended(self) -> None:
        with self._session.publishing:
            if self._unconfirmed > 0 or not self._messages:
                return
            messages, self._messages = self._messages, []
        if self._errors:
            self._session.publish_failed(messages, self._errors[0])
            return
        for each in messages:
            self._session.settlement.send(each, Outcome.ACK)
