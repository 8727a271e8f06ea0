"""How often a message was tried before, as far as its headers tell.

Two counts come with messages: ``x-delivery-count`` from quorum queues, and ``x-death`` from
dead-lettering. Neither is the number of tries of a callback: on RabbitMQ 4.0 a lost connection
counts as a delivery for every message that was only sent ahead (from 4.3 on only rejects do). Any
sender may forge them, since the broker replaces them only when it delivers again or dead-letters.
So they are believed as far as they can be true, and only make the tries fewer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector.link import Delivery
from neon_mq_connector.link.translate import broker_refusal

#: What quorum queues allow where nothing else was declared (RabbitMQ 4.0, "Quorum Queues").
DEFAULT_DELIVERY_LIMIT = 20
_MOST_DEATHS = 100
_MOST_REJECTIONS = 1_000_000
#: The text with which a broker closes the channel of a consumer that did not acknowledge in time.
_TIMED_OUT = re.compile(r"delivery acknowledgement .* timed out. Timeout value used: (\d+) ms")


def delivery_count(delivery: Delivery) -> int:
    """Return how often a quorum queue has delivered a message before; 0 for other queues."""
    headers = delivery.properties.headers
    if not headers or not delivery.method.redelivered:
        return 0
    value = headers.get("x-delivery-count")
    return value if isinstance(value, int) and value > 0 else 0


def rejections(properties: BasicProperties, queue: str) -> int:
    """Return how often a message was rejected from a queue and came back by dead-lettering."""
    deaths = (properties.headers or {}).get("x-death")
    if not isinstance(deaths, list):
        return 0
    counts = [
        death.get("count")
        for death in deaths[:_MOST_DEATHS]
        if isinstance(death, Mapping)
        and (death.get("queue"), death.get("reason")) == (queue, "rejected")
    ]
    highest = max((count for count in counts if isinstance(count, int)), default=0)
    return min(_MOST_REJECTIONS, max(0, highest))


def delivery_limit(queue_arguments: Mapping[str, Any]) -> int | None:
    """Return after how many deliveries a quorum queue drops a message; None for no limit.

    It is that of the declaration here. An operator may have declared the queue otherwise, or set a
    policy: the smaller of what is known is a safe guess.
    """
    value = queue_arguments.get("x-delivery-limit", DEFAULT_DELIVERY_LIMIT)
    return value if isinstance(value, int) and value >= 0 else None


def ack_timeout(error: BaseException) -> float | None:
    """Return for how many seconds the broker has waited for an ack before it closed the channel.

    None when the channel ended for another reason.
    """
    refusal = broker_refusal(error)
    found = None if refusal is None else _TIMED_OUT.search(refusal.text)
    return int(found.group(1)) / 1000 if found else None
