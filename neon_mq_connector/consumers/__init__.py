"""Consumers: what attaches to a queue, runs callbacks, and recovers."""

from __future__ import annotations

from neon_mq_connector.consumers.blocking_consumer import BlockingConsumerThread
from neon_mq_connector.consumers.consumer_thread import BaseConsumerThread
from neon_mq_connector.consumers.registration import AckMode, Registration, Retry
from neon_mq_connector.consumers.select_consumer import SelectConsumerThread

#: The default engine.
ConsumerThread = BlockingConsumerThread

__all__ = [
    "AckMode",
    "BaseConsumerThread",
    "BlockingConsumerThread",
    "ConsumerThread",
    "Registration",
    "Retry",
    "SelectConsumerThread",
]
