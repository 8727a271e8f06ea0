"""Help for testing services that use this library: a broker of one's own."""

from __future__ import annotations

from neon_mq_connector.testing.broker import PrivateBroker
from neon_mq_connector.testing.embedded import EmbeddedBroker
from neon_mq_connector.testing.errors import (
    BrokerProgramsNotFoundError,
    ManagementError,
    PrivateBrokerError,
)
from neon_mq_connector.testing.management import ManagementClient

__all__ = [
    "BrokerProgramsNotFoundError",
    "EmbeddedBroker",
    "ManagementClient",
    "ManagementError",
    "PrivateBroker",
    "PrivateBrokerError",
]
