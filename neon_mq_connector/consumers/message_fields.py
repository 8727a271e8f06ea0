"""What log records say of the message that is handled: the library's, and those of callbacks."""

from __future__ import annotations

import logging

from neon_mq_connector.consumers.delivery_channel import current_channel
from neon_mq_connector.consumers.session import ReceivedMessage
from neon_mq_connector.log_fields import log_fields


def fields_of(message: ReceivedMessage) -> dict[str, object]:
    """Return the fields of a message, as `log_fields` does."""
    delivery, session = message.delivery, message.session
    message_id = None if delivery is None else delivery.properties.message_id
    return log_fields(session.queue, session.connections.vhost, message_id)


class MessageFields(logging.Filter):
    """Add ``mq_queue``, ``mq_vhost`` and ``mq_message_id`` to the records that callbacks log.

    It drops none, and is added to a handler, since records of all loggers come there.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(MessageFields())
        >>> logging.basicConfig(level=logging.INFO, handlers=[handler])
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields where a callback is running and the record has none; return True."""
        channel = current_channel.get()
        if channel is not None and channel.message is not None:
            for name, value in fields_of(channel.message).items():
                vars(record).setdefault(name, value)
        return True
