"""Wait for sockets: by epoll where it is available, else by what `selectors` finds.

gevent removes `select.epoll`; macOS and Windows have none. epoll is used without `selectors` for
two reasons: what `selectors` adds to each call costs more than the call, and only of epoll is it
known that another thread may change what is waited for.
"""

from __future__ import annotations

import select
import selectors
import sys

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Poller:
    """Wait until sockets can be read or written, with the best that `selectors` has here.

    Events are `READ` and `WRITE`, or both.

    Attributes:
        any_thread: whether any thread may call `modify`, also while another waits, and for no
            events.
    """

    any_thread = False

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int) -> None:
        """Wait for a socket too."""
        self._selector.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events of a socket."""
        self._selector.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Wait for a socket no more."""
        self._selector.unregister(fd)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """Wait for a number of seconds at most.

        Returns:
            The sockets that are ready, each with its events; for one that is broken both.
        """
        return [(key.fd, events) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        """Release the descriptor."""
        self._selector.close()


if sys.platform == "linux":

    class EpollPoller(Poller):
        """Wait with epoll."""

        any_thread = True

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def register(self, fd: int, events: int) -> None:
            self._epoll.register(fd, _IN_EPOLL[events])

        def modify(self, fd: int, events: int) -> None:
            self._epoll.modify(fd, _IN_EPOLL[events])

        def unregister(self, fd: int) -> None:
            self._epoll.unregister(fd)

        def close(self) -> None:
            self._epoll.close()

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            ready = self._epoll.poll(timeout)
            if len(ready) == 1 and ready[0][1] == select.EPOLLIN:
                return ready  # almost always; READ is the same number
            return [
                (
                    fd,
                    (READ if events & ~select.EPOLLOUT else 0)
                    | (WRITE if events & ~select.EPOLLIN else 0),
                )
                for fd, events in ready
            ]

    _IN_EPOLL = {
        0: 0,
        READ: select.EPOLLIN,
        WRITE: select.EPOLLOUT,
        READ | WRITE: select.EPOLLIN | select.EPOLLOUT,
    }


def new_poller() -> Poller:
    """Return the best poller that is available, which gevent may change after the import."""
    if sys.platform == "linux" and hasattr(select, "epoll"):
        return EpollPoller()
    return Poller()
