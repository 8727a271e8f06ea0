"""An event that a signal handler may set, whatever it has interrupted.

`threading.Event` has a lock that whoever waits for it holds for moments; a handler that sets the
event in such a moment waits for itself.
"""

from __future__ import annotations

import time
from queue import Empty

from neon_mq_connector.threads.mailbox import Mailbox


class Flag:
    """Something that is set or not; any thread may set it and wait for it."""

    def __init__(self) -> None:
        self._is_set = False
        self._wakes: Mailbox[None] = Mailbox()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it and wake whoever waits; a second time does no harm."""
        self._is_set = True
        self._wakes.put(None)

    def clear(self) -> None:
        """Set it back."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Wait until it is set.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether it is set.
        """
        deadline = time.monotonic() + timeout
        while not self._is_set:
            try:
                self._wakes.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if self._is_set:
                self._wakes.put(None)  # for the next one who waits
        return self._is_set
