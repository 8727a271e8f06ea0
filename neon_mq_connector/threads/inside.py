"""Know in a signal handler what its own thread was doing when it was interrupted.

A handler runs on the main thread, in between. What that thread holds is not let go before the
handler returns: to wait for it there is to wait for oneself, and locks that are reentrant let the
handler into what is half done.
"""

from __future__ import annotations

from threading import get_ident


class Inside:
    """The threads that are in the middle of something; true for those threads.

    A thread goes in within a ``try`` and comes out as the first thing of its ``finally``, each by
    one call of a method of the set. So no exception that a signal handler raises leaves it inside.

    Example:
        >>> thread = get_ident()
        >>> if thread in inside.threads:
        ...     do_it_elsewhere()
        ... else:
        ...     try:
        ...         inside.threads.add(thread)
        ...         do_it()
        ...     finally:
        ...         inside.threads.discard(thread)

    Attributes:
        threads: their identifiers.
    """

    __slots__ = ("threads",)

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __bool__(self) -> bool:
        """Whether the calling thread is inside: it is a signal handler that asks."""
        return get_ident() in self.threads
