"""What the broker's text says when it closes a publishing channel: which message was to blame."""

from __future__ import annotations

import re
from collections.abc import Callable

import pika.exceptions as pika_errors

from neon_mq_connector.errors import MQError
from neon_mq_connector.publishing.confirm_channel import Message
from neon_mq_connector.topology import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED

_EXCHANGE = re.compile(r"exchange '([^']*)'")
_SIZE = re.compile(r"message size (\d+) is larger than")
_USER = re.compile(r"user_id property set to '([^']*)'")


def refused_exchange(error: MQError) -> str | None:
    """Read from a refusal which exchange is missing or forbidden; None where it is another."""
    refusal = _refusal(error, NOT_FOUND, ACCESS_REFUSED)
    found = _EXCHANGE.search(refusal)
    return found.group(1) if found else None


def refused_message(error: MQError) -> Callable[[Message], bool]:
    """Read from a refusal which message it was that the broker did not take.

    Returns:
        What says of a message whether it is that; it says so of none where the refusal is another.
    """
    refusal = _refusal(error, PRECONDITION_FAILED)
    size = _SIZE.search(refusal)
    if size:
        return lambda message: len(message.body) == int(size.group(1))
    user = _USER.search(refusal)
    if user:
        return lambda message: getattr(message.properties, "user_id", None) == user.group(1)
    return lambda message: False


def _refusal(error: MQError, *codes: int) -> str:
    """Give the text with which the broker closed the channel, where its code is one of these."""
    cause = error.__cause__
    if isinstance(cause, pika_errors.ChannelClosedByBroker) and cause.reply_code in codes:
        return str(cause.reply_text)
    return ""
