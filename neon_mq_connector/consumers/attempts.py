"""How often a message was tried before, as far as the broker knows.

Two counts come with messages: ``x-delivery-count`` from quorum queues, and ``x-death`` from
dead-lettering. Neither is the number of tries of a callback: on RabbitMQ 4.0 a lost connection
counts as a delivery for every message that was only sent ahead (from 4.3 on only rejects do).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

#: What quorum queues allow where nothing else was declared (RabbitMQ 4.0, "Quorum Queues").
DEFAULT_DELIVERY_LIMIT = 20


def delivery_count(properties: BasicProperties) -> int:
    """Read how often a quorum queue has delivered a message before; 0 for other queues."""
    value = (properties.headers or {}).get("x-delivery-count")
    return value if isinstance(value, int) and value > 0 else 0


def rejections(properties: BasicProperties, queue: str) -> int:
    """Read how often a message was rejected from a queue and came back by dead-lettering."""
    deaths = (properties.headers or {}).get("x-death")
    if not isinstance(deaths, list):
        return 0
    return sum(
        death["count"]
        for death in deaths
        if isinstance(death, Mapping)
        and death.get("queue") == queue
        and death.get("reason") == "rejected"
        and isinstance(death.get("count"), int)
    )


def delivery_limit(queue_arguments: Mapping[str, Any]) -> int | None:
    """Say after how many deliveries a quorum queue drops a message.

    Args:
        queue_arguments: as the queue was declared here. An operator may have declared it otherwise,
            or set a policy: the smaller of what is known is a safe guess.

    Returns:
        The limit, or None when the queue was declared without one.
    """
    value = queue_arguments.get("x-delivery-limit", DEFAULT_DELIVERY_LIMIT)
    return value if isinstance(value, int) and value >= 0 else None
