"""Wake a loop that waits for its sockets: an eventfd where the system has one, else a socket pair.

Writing to it never waits and may be done by any thread, and by a signal handler.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading


class Waker:
    """A descriptor that becomes readable when somebody wakes.

    `_open` owns whether it is open: once closed, its number may stand for somebody's socket.
    """

    def __init__(self) -> None:
        self._open = threading.RLock()
        self._closed = False
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        if hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            self.fd = self._reader.fileno()

    def wake(self) -> None:
        """Make the descriptor readable; it may be so already, or be closed."""
        # full: whoever reads it has enough to wake up from
        with self._open, contextlib.suppress(OSError):
            if self._closed:
                return
            if self._writer is None:
                os.eventfd_write(self.fd, 1)
            else:
                self._writer.send(b"\0")

    def clear(self) -> None:
        """Make it unreadable until the next time."""
        with contextlib.suppress(BlockingIOError):
            if self._reader is None:
                os.eventfd_read(self.fd)
            else:
                self._reader.recv(4096)

    def close(self) -> None:
        """Release the descriptor."""
        with self._open:
            if self._closed:
                return
            self._closed = True
            if self._reader is None or self._writer is None:
                os.close(self.fd)
            else:
                self._reader.close()
                self._writer.close()
