"""The seam: what a link and a channel on it offer to the roles above, and what they report back.

Everything above talks to one connection through this and nothing else, so that the way bytes
reach the socket can change without the roles knowing.

Events are called on the link's I/O thread. They must not block and must not raise: the thread
serves every queue of its virtual host.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import MQError


class LinkState(enum.Enum):
    """Where a link stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSING = "closing"
    CLOSED = "closed"


class Delivery(NamedTuple):
    """A message as it came: the three arguments that follow the channel in a callback."""

    method: Basic.Deliver
    properties: BasicProperties
    body: bytes


class Returned(NamedTuple):
    """A mandatory message that the broker gave back because no queue takes it."""

    method: Basic.Return
    properties: BasicProperties
    body: bytes


def _ignore(*_: object) -> None:
    """Take an event that nobody asked for."""


#: A message as it came: the arguments of ``Basic.Deliver`` after the method's id, the payload of
#: the content header from the property flags on, and the body.
RawDelivery = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class ChannelEvents:
    """What a channel reports, each on the I/O thread, in the order in which it happened.

    Attributes:
        deliveries: messages in a batch, in order, as they came; `decode_delivery` reads them.
        fetched: the delivery tag of a message that was asked for and has to be settled.
        confirms: (delivery tag, multiple, nacked) for messages published in confirm mode.
        returned: an unroutable mandatory message; its confirm follows.
        cancelled: the broker ended the consumer (its queue was deleted, or moved).
        shut: the channel is gone, and why; the last event, and it comes exactly once.
    """

    deliveries: Callable[[Sequence[RawDelivery]], None] = _ignore
    fetched: Callable[[int], None] = _ignore
    confirms: Callable[[int, bool, bool], None] = _ignore
    returned: Callable[[Returned], None] = _ignore
    cancelled: Callable[[str], None] = _ignore
    shut: Callable[[MQError], None] = _ignore
