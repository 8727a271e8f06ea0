"""The message whose callback is running, for what is called from inside of it."""

from __future__ import annotations

from contextvars import ContextVar

from neon_mq_connector.consumers.delivery_channel import DeliveryChannel

#: The channel of the message that the running callback handles; None elsewhere.
current_channel: ContextVar[DeliveryChannel | None] = ContextVar("current_channel", default=None)
