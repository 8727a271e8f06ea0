"""The unconfirmed publishes of a callback, and the acks that wait for them.

An ack that follows publishes of the same callback leaves when they are confirmed: so a request is
not acknowledged before its answer is safe. If one of them fails, its message counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.consumers.session import ReceivedMessage, Session
from neon_mq_connector.consumers.settlement import Outcome
from neon_mq_connector.errors import PublishRefusedError


class PendingPublishes:
    """The publishes of one callback up to its next ack; the publisher's `Answer` for each of them.

    The session's lock `publishing` owns its state.

    Args:
        session: the session of the messages that are acked.
        report: told of each failure that no ack waits for.
    """

    __slots__ = ("_acked", "_errors", "_messages", "_report", "_session", "_unconfirmed")

    def __init__(self, session: Session, report: Callable[[BaseException], object]) -> None:
        self._session = session
        self._report = report
        self._unconfirmed = 0
        self._errors: list[BaseException] = []
        self._messages: list[ReceivedMessage] | None = None
        self._acked: ReceivedMessage | None = None

    def __bool__(self) -> bool:
        """Whether an ack has to wait, or must not be sent."""
        return self._unconfirmed > 0 or bool(self._errors)

    @property
    def has_ack(self) -> bool:
        """Whether an ack waits for the confirms, or has failed with one of them."""
        return self._messages is not None

    def add(self) -> None:
        """Note a publish that is about to be made; its `resolve` or `fail` follows."""
        self._unconfirmed += 1

    def ack_when_confirmed(self, messages: list[ReceivedMessage]) -> None:
        """Acknowledge messages once all publishes are confirmed; else they have failed."""
        with self._session.publishing:
            self._messages = messages
        self._settle_if_ended()

    def fail_if_refused(self, message: ReceivedMessage) -> None:
        """Let a message that was acknowledged on receipt fail if a publish is refused, or was.

        One that is only unconfirmed may have arrived.
        """
        self._acked = message
        for error in self._errors.copy():
            self._fail_acked(error)

    def forgive(self, error: BaseException) -> None:
        """Forget an error, since the callback has caught it: no ack fails because of it."""
        with self._session.publishing:
            if self._messages is None:
                self._errors = [each for each in self._errors if each is not error]

    def resolve(self, value: None) -> None:
        """Note a confirm, or that a publish was not made after all."""
        with self._session.publishing:
            self._unconfirmed -= 1
        if self._messages is not None:
            self._settle_if_ended()

    def fail(self, error: BaseException) -> None:
        """Note that a publish has failed."""
        with self._session.publishing:
            self._unconfirmed -= 1
            self._errors.append(error)
            has_ack = self.has_ack
        if has_ack:
            self._settle_if_ended()
        else:
            self._report(error)
            self._fail_acked(error)

    def _fail_acked(self, error: BaseException) -> None:
        if isinstance(error, PublishRefusedError):
            with self._session.publishing:
                message, self._acked = self._acked, None
            if message is not None:
                self._session.host.publish_refused(message, error)

    def _settle_if_ended(self) -> None:
        with self._session.publishing:
            if self._unconfirmed > 0 or not self._messages:
                return
            messages, self._messages = self._messages, []
        session = self._session
        if self._errors:
            session.host.publish_failed(messages, self._errors[0])
            return
        for each in messages:
            session.settlement.send(each, Outcome.ACK)
