"""What can go wrong with a private broker, and what to do about each."""

from __future__ import annotations

from neon_mq_connector.errors import MQError


class PrivateBrokerError(MQError, RuntimeError):
    """A private RabbitMQ node could not do what was asked; the message has the end of its log."""


class BrokerProgramsNotFoundError(PrivateBrokerError):
    """RabbitMQ is not installed, or not where we look; the message says how to install it."""


class ManagementError(PrivateBrokerError):
    """The node's management interface refused a call or could not be reached.

    Attributes:
        status: the HTTP status of the refusal, or None when there was no answer at all.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
