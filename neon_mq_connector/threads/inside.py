"""Know in a signal handler what its own thread was doing when it was interrupted.

A handler runs on the main thread, in between. What that thread holds is not let go before the
handler returns: to wait for it there is to wait for oneself, and locks that are reentrant let the
handler into what is half done.
"""

from __future__ import annotations

import threading


class Inside(threading.local):
    """Whether the calling thread is in the middle of something, so that it is a handler that asks.

    Each thread has a lock of its own, which it holds meanwhile. The interpreter takes and releases
    a lock in a ``with`` statement in one step each: an exception that a signal handler raises, at
    whatever moment, cannot leave the thread inside.

    Example:
        >>> if inside:
        ...     do_it_elsewhere()
        ... else:
        ...     with inside.here:
        ...         do_it()

    Attributes:
        here: the lock of the calling thread; not reentrant.
    """

    def __init__(self) -> None:
        self.here = threading.Lock()

    def __bool__(self) -> bool:
        """Whether the calling thread is inside."""
        return self.here.locked()
