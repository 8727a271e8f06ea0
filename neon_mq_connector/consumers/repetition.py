"""Recognise deliveries that come again although their callback has started.

Of messages that are acknowledged when their callback starts, the broker may not have read the last
acks when a session was lost; it delivers those once more. Nothing on the wire says that it is the
same delivery, and an id that the sender chose may be that of many messages. So a message that comes
again is compared in full with what was started.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link import RawDelivery, decode_delivery

#: What brokers add to the headers of a message that they deliver again.
_BROKERS_HEADERS = ("x-delivery-count", "x-acquired-count")


#: What is kept of a delivery: the arguments, the header, and the size and the hash of the body.
_Digest = tuple[bytes, bytes, int, int]


class StartedDeliveries:
    """The last deliveries of one session whose callback has started, or will never start.

    As many are kept as the broker may count as unacknowledged. Any thread may call its methods. The
    lock owns `_left`, the keys that are not recognised yet; it is made at the first question.
    """

    def __init__(self, size: int) -> None:
        self._started: deque[_Digest] = deque(maxlen=size)
        self._never_started: deque[_Digest] = deque(maxlen=size)
        self._lock = threading.Lock()
        self._left: list[Any] | None = None

    def __bool__(self) -> bool:
        return bool(self._started)

    def started(self, message: RawDelivery) -> None:
        """Note a delivery whose callback starts."""
        self._started.append(_digest(message))

    def never_started(self, message: RawDelivery) -> None:
        """Note a delivery whose callback does not start, since the session is over."""
        self._never_started.append(_digest(message))

    def recognise(self, message: RawDelivery) -> bool:
        """Whether a message that comes again was started on this session; True once for each.

        Of several equal messages it cannot be known which comes again. Then it is False: none may
        be lost.
        """
        key = _key(_digest(message))
        with self._lock:
            if self._left is None:
                self._left = [_key(each) for each in list(self._started)]
            if self._left.count(key) != 1 or key in map(_key, list(self._never_started)):
                return False
            self._left.remove(key)
            return True


def _digest(message: RawDelivery) -> _Digest:
    arguments, header, body = message
    return arguments, header, len(body), hash(body)


def _key(digest: _Digest) -> tuple[str, str, BasicProperties | None, int, int]:
    """Return what is the same whenever a message is delivered."""
    arguments, header, size, body_hash = digest
    try:
        method, properties, _ = decode_delivery((arguments, header, b""))
    except FrameError:
        return "", "", None, size, body_hash  # never started
    headers = properties.headers or {}
    properties.headers = {k: v for k, v in headers.items() if k not in _BROKERS_HEADERS}
    return method.exchange, method.routing_key, properties, size, body_hash
