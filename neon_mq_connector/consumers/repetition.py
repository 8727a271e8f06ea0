"""Which messages were started here a short while ago, to know one again whose ack was lost."""

from __future__ import annotations

import threading
from collections import OrderedDict

from neon_mq_connector.codec import decode_body
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.link import Delivery


class RecentlyStarted:
    """Remember the last messages; every method may be called from any thread.

    Args:
        size: how many are remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: OrderedDict[object, None] = OrderedDict()
        self._lock = threading.Lock()

    def is_repetition(self, delivery: Delivery) -> bool:
        """Say whether a message was started here before, and remember it.

        Args:
            delivery: the message.

        Returns:
            Whether the broker delivers it again, and this is not the first time here.
        """
        body = delivery.body
        message_id = delivery.properties.message_id
        key = message_id or (len(body), hash(body))
        with self._lock:
            known = key in self._seen
            self._seen[key] = None
            self._seen.move_to_end(key)
            if len(self._seen) > self._size:
                self._seen.popitem(last=False)
        if not known or not delivery.method.redelivered:
            return False
        # equal bytes are one message only where an id is among them
        return bool(message_id) or _has_id(delivery)


def _has_id(delivery: Delivery) -> bool:
    try:
        message, _format = decode_body(delivery.body, delivery.properties.content_type)
    except DecodeError:
        return False
    return bool(message.get("message_id"))
