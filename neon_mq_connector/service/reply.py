"""What a message sent from inside a callback answers, if anything."""

from __future__ import annotations

from neon_mq_connector.consumers.answers import Reply
from neon_mq_connector.consumers.current import current_channel
from neon_mq_connector.sending.target import Target


def answer_in_kind(target: Target) -> Reply | None:
    """Find out whether a message to a target answers the request that the running callback handles.

    Args:
        target: where a message is about to be sent.

    Returns:
        How to send it, or None when it is no answer.
    """
    channel = current_channel.get()
    if channel is None or target.exchange or not target.queue:
        return None
    return channel.reply(target.queue)
