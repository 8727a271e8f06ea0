"""The message whose callback is running, for what is called from inside of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from neon_mq_connector.consumers.reply_route import ReplyRoute
from neon_mq_connector.link import Delivery


class CurrentDelivery(NamedTuple):
    """The message whose callback is running.

    Attributes:
        delivery: the message.
        route: how it may be answered directly, if it may.
    """

    delivery: Delivery
    route: ReplyRoute | None


#: What the running callback handles; None elsewhere.
current_delivery: ContextVar[CurrentDelivery | None] = ContextVar("current_delivery", default=None)
