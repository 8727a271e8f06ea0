"""Which deliveries come again although their callback has started.

Of messages that are acknowledged when their callback starts, the broker may not have read the last
acks when a session was lost; it delivers those once more. Nothing on the wire says that it is the
same delivery, and an id that the sender chose may be that of many messages. So a message that comes
again is compared in full with what was started.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

from pika.spec import BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link import RawDelivery, decode_delivery

#: What brokers add to the headers of a message that they deliver again.
_BROKERS_HEADERS = ("x-delivery-count", "x-acquired-count")


class _Digest(NamedTuple):
    """What is kept of a delivery: all but its body, of which the size and the hash are."""

    arguments: bytes
    header: bytes
    size: int
    body_hash: int


class StartedDeliveries:
    """The last deliveries of one session whose callback has started, and those where it never did.

    `started` and `never_started` are for any thread; they append. The lock owns what is left to be
    recognised, which is made up at the first question.

    Args:
        size: how many are kept: as many as the broker may count as unacknowledged.
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
        """Say whether a message that comes again was started on this session, once for each.

        Where several messages are equal it cannot be known which of them comes again; then it is
        none: none may be lost.
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
    return _Digest(arguments, header, len(body), hash(body))


def _key(digest: _Digest) -> tuple[str, str, BasicProperties | None, int, int]:
    """Return what is the same whenever a message is delivered."""
    try:
        method, properties, _ = decode_delivery((digest.arguments, digest.header, b""))
    except FrameError:
        return "", "", None, digest.size, digest.body_hash  # never started
    headers = properties.headers or {}
    properties.headers = {k: v for k, v in headers.items() if k not in _BROKERS_HEADERS}
    return method.exchange, method.routing_key, properties, digest.size, digest.body_hash
