"""`BlockingConsumerThread`: the consumer thread that services know, and the default engine."""

from __future__ import annotations

from neon_mq_connector.consumers.consumer_thread import BaseConsumerThread


class BlockingConsumerThread(BaseConsumerThread):
    """Consume one queue; ``error_func`` is told of an outage when it begins."""
