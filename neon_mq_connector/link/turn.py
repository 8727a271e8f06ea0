"""Whose turn it is to read a socket: the I/O thread's, or a thread's that waits for an answer.

To have an answer brought by the I/O thread costs two changes of thread, which is more than all else
that there is to do. So a thread that waits alone may *lead*: the loop looks at the socket no more,
and the thread reads what comes, for others too, until its own answer is there.

A leader that has not come by for a while (a signal handler has interrupted it, or somebody looks at
it with a debugger) loses its turn: the I/O thread's timer sees to that. So nothing hangs on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from neon_mq_connector.link.poller import READ, WRITE

#: After how many seconds without a sign a leader loses its turn.
_PATIENCE = 0.1


class Turn:
    """The turn to read one socket.

    `reading` is held while something is read and handled. Its holder owns the parser, and what the
    frames that come are entered in. `_order` owns who leads and what the loop looks for; it is held
    for moments, and reentrant, since a signal handler may come in between.

    Args:
        fd: the socket.
        look_for: has the loop look for these events of a socket; called by any thread.
    """

    def __init__(self, fd: int, look_for: Callable[[int, int], object]) -> None:
        self.reading = threading.RLock()  # it knows whether it is held by who releases it
        self._fd = fd
        self._look_for = look_for
        self._order = threading.RLock()
        self._leader: object | None = None
        self._seen_at = 0.0
        self._writes = False
        self._over = False

    # -- the thread that leads -----------------------------------------------------------------

    def begin(self) -> object | None:
        """Take the turn.

        Returns:
            What the leader shows from here on; None when there is another, or no socket any more.
        """
        with self._order:
            if self._leader is not None or self._over:
                return None
            leader = self._leader = object()
            self._seen_at = time.monotonic()
            self._look()
            return None if self.is_over else leader

    def goes_on(self, leader: object) -> bool:
        """Give a sign, and learn whether one still leads."""
        self._seen_at = time.monotonic()
        return self._leader is leader and not self._over

    def end(self, leader: object) -> None:
        """Give the turn back to the I/O thread, if one still has it."""
        with self._order:
            if self._leader is leader:
                self._leader = None
                self._look()

    def hand_over(self) -> object:
        """Have nobody read before the I/O thread has dealt with what one could not.

        To be called with `reading` held: so nobody has read on, whoever leads by now.

        Returns:
            What is to be shown to `end` then.
        """
        with self._order:
            self._leader = object()
            self._seen_at = time.monotonic()
            self._look()
            return self._leader

    # -- the I/O thread ------------------------------------------------------------------------

    @property
    def is_led(self) -> bool:
        """Whether another thread reads."""
        return self._leader is not None

    @property
    def is_over(self) -> bool:
        """Whether nobody reads any more."""
        return self._over

    def take_back(self) -> None:
        """Take the turn from a leader that has not come by for a while."""
        if not self._order.acquire(blocking=False):
            return  # the next time will do
        try:
            if self._leader is not None and time.monotonic() - self._seen_at > _PATIENCE:
                self._leader = None
                self._look()
        finally:
            self._order.release()

    def look_for_room(self, wanted: bool) -> None:
        """Have the loop tell, or no longer tell, when the socket can be written to."""
        with self._order:
            self._writes = wanted
            self._look()

    def close(self) -> None:
        """Let nobody lead any more, and have the loop told nothing."""
        with self._order:
            self._over = True
            self._leader = None

    def _look(self) -> None:
        if self._over:
            return
        reads = 0 if self._leader is not None else READ
        try:
            self._look_for(self._fd, reads | (WRITE if self._writes else 0))
        except (OSError, ValueError):  # the loop has ended, and with it the socket
            self._over = True
