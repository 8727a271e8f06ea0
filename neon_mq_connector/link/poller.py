"""What stands in for `select.epoll` where there is none: under gevent, on macOS and Windows.

epoll is used without `selectors` for two reasons: what `selectors` adds to each call costs more
than the call, and only of epoll is it known that another thread may change what is waited for.
"""

from __future__ import annotations

import selectors

#: epoll's flags; the last are those of a broken socket, which are told unasked.
READ, WRITE, ERROR = 1, 4, 8 | 16

_IN_SELECTORS = {
    READ: selectors.EVENT_READ,
    WRITE: selectors.EVENT_WRITE,
    READ | WRITE: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
_IN_EPOLL = {events: flags for flags, events in _IN_SELECTORS.items()}


class SelectorPoller:
    """The methods of `select.epoll`, by the best that `selectors` has here."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.unregister = self._selector.unregister
        self.close = self._selector.close

    def register(self, fd: int, flags: int) -> None:
        """Wait for a socket too."""
        self._selector.register(fd, _IN_SELECTORS[flags & ~ERROR])

    def modify(self, fd: int, flags: int) -> None:
        """Wait for other events of a socket."""
        self._selector.modify(fd, _IN_SELECTORS[flags & ~ERROR])

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Wait for a number of seconds at most; return the sockets that are ready."""
        return [(key.fd, _IN_EPOLL[events]) for key, events in self._selector.select(timeout)]
