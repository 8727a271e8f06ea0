"""What a channel reports: messages, confirms, its end.

Events are called on the link's I/O thread. They must not block and must not raise: the thread
serves every queue of its virtual host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import MQError


class Delivery(NamedTuple):
    """A message as it came: the three arguments that follow the channel in a callback."""

    method: Basic.Deliver
    properties: BasicProperties
    body: bytes


def ignore(*_: object) -> None:
    """Ignore an event or an answer."""


#: A message as it came: the arguments of ``Basic.Deliver`` after the method's id, the payload of
#: the content header from the property flags on, and the body.
RawDelivery = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class ChannelEvents:
    """What a channel reports, each on the I/O thread, in the order in which it happened.

    Attributes:
        deliveries: messages in a batch, in order, as they came; `decode_delivery` reads them.
        fetched: the delivery tag of a message that `get` took and that has to be settled.
        confirms: (delivery tag, multiple, nacked) for messages published in confirm mode.
        returned: (method, properties, body) of an unroutable message; its confirm follows.
        cancelled: the broker cancelled the consumer (its queue was deleted, or moved).
        shut: the channel is shut, and why; the last event, and it comes exactly once.
    """

    deliveries: Callable[[Sequence[RawDelivery]], None] = ignore
    fetched: Callable[[int], None] = ignore
    confirms: Callable[[int, bool, bool], None] = ignore
    returned: Callable[[Basic.Return, BasicProperties, bytes], None] = ignore
    cancelled: Callable[[str], None] = ignore
    shut: Callable[[MQError], None] = ignore
