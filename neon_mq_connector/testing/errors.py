"""What can go wrong with a private broker, and what to do about each."""

from __future__ import annotations

from neon_mq_connector.errors import MQError


class PrivateBrokerError(MQError, RuntimeError):
    """A private RabbitMQ node could not do what was asked; the message has the end of its log."""


class BrokerProgramsNotFoundError(PrivateBrokerError):
    """RabbitMQ is not installed, or not where we look; the message says how to install it."""
