"""Who is told how a consumer's connection fares."""

from __future__ import annotations

from neon_mq_connector.consumers.session import Session


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
