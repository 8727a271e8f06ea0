"""How many bytes of messages may wait for their callback: above it the flow is stopped for a while.

The prefetch bounds how many messages the broker sends ahead, whatever their size. So a consumer
whose waiting messages have become too big is cancelled, and consumes again when half of that has
been worked off.
"""

from __future__ import annotations

import threading


class ByteBudget:
    """Count the bytes that wait; every method may be called from any thread.

    Args:
        limit: how many bytes may wait; a single message is taken however big it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting = 0
        self._stopped = False

    @property
    def waiting(self) -> int:
        """How many bytes wait."""
        return self._waiting

    def arrived(self, size: int) -> bool:
        """Count what has come.

        Args:
            size: bytes.

        Returns:
            Whether the flow is to be stopped now.
        """
        with self._lock:
            self._waiting += size
            if self._stopped or self._waiting <= self._limit:
                return False
            self._stopped = True
            return True

    def taken(self, size: int) -> bool:
        """Count what no longer waits.

        Args:
            size: bytes.

        Returns:
            Whether the flow is to be started again now.
        """
        with self._lock:
            self._waiting -= size
            if not self._stopped or self._waiting > self._limit // 2:
                return False
            self._stopped = False
            return True
