"""The parts of `MQConnector`, each on the one before.

Configured, messaging, asking, pipelined, consuming.
"""

from __future__ import annotations

from neon_mq_connector.service.consuming import ConsumingService

__all__ = ["ConsumingService"]
