"""What a callback has published without a confirm yet, and the acks that wait for it.

An ack that follows publishes of the same callback leaves when they are confirmed: so a request is
not acknowledged before its answer is safe. If one of them fails, its message counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from neon_mq_connector.consumers.settlement import OpenDelivery, Verdict

if TYPE_CHECKING:
    from neon_mq_connector.consumers.session import Session


class _WaitingAcks:
    """Deliveries that are acked when so many publishes are confirmed."""

    __slots__ = ("deliveries", "error", "left")

    def __init__(self, deliveries: list[OpenDelivery], left: int) -> None:
        self.deliveries = deliveries
        self.left = left
        self.error: BaseException | None = None


class PendingPublish:
    """One publish; the publisher tells it the end of its message, on the I/O thread.

    Attributes:
        acks: those that wait for it, or have failed with it.
        error: why the broker does not have the message.
    """

    __slots__ = ("_all", "acks", "error")

    def __init__(self, publishes: PendingPublishes) -> None:
        self._all = publishes
        self.acks: _WaitingAcks | None = None
        self.error: BaseException | None = None

    def resolve(self, value: None) -> None:
        """Take the confirm."""
        self._all.ended(self, None)

    def fail(self, error: BaseException) -> None:
        """Take the failure."""
        self._all.ended(self, error)


class PendingPublishes:
    """The publishes of one callback; the session's lock `publishing` owns them.

    Args:
        session: whose deliveries are acked, and which is told of acks that have failed.
        report: told of a failure that no ack waits for, at once; the session by default.
    """

    __slots__ = ("_pending", "_report", "_session")

    def __init__(
        self, session: Session, report: Callable[[BaseException], object] | None = None
    ) -> None:
        self._session = session
        self._report = report or session.report_publish
        # those that no ack waits for: without a confirm yet, or failed
        self._pending: list[PendingPublish] = []

    def __bool__(self) -> bool:
        """Whether an ack has to wait, or would be wrong."""
        return bool(self._pending)

    def add(self) -> PendingPublish:
        """Note a publish that is about to be made."""
        publish = PendingPublish(self)
        with self._session.publishing:
            self._pending.append(publish)
        return publish

    def forget(self, publish: PendingPublish) -> None:
        """Have no ack fail because of it: it was not made after all, or its failure is known."""
        with self._session.publishing:
            if publish in self._pending:
                self._pending.remove(publish)

    def ack_when_confirmed(self, deliveries: list[OpenDelivery]) -> None:
        """Send acks when all publishes so far are confirmed; if one is not, they have failed."""
        with self._session.publishing:
            publishes, self._pending = self._pending, []
            failed = next((each.error for each in publishes if each.error is not None), None)
            waiting = [each for each in publishes if each.error is None]
            acks = _WaitingAcks(deliveries, len(waiting))
            acks.error = failed
            for publish in publishes:
                publish.acks = acks
        if not waiting:
            self._settle(acks)

    def ended(self, publish: PendingPublish, error: BaseException | None) -> None:
        """Take the end of a publish; called on the I/O thread."""
        with self._session.publishing:
            acks = publish.acks
            if acks is None:
                publish.error = error
                if error is None:
                    self._pending.remove(publish)
            else:
                acks.left -= 1
                acks.error = acks.error or error
                if acks.left:
                    return
        if acks is not None:
            self._settle(acks)
        elif error is not None:
            # nothing is acked on the strength of it (yet): the failure is at least told
            self._report(error)

    def _settle(self, acks: _WaitingAcks) -> None:
        if acks.error is not None:
            self._session.publish_failed(acks.deliveries, acks.error)
            return
        for each in acks.deliveries:
            self._session.settlement.send(each.tag, Verdict.ACK)
