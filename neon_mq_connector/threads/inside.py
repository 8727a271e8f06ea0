"""Know in a signal handler what its own thread was doing when it was interrupted.

A handler runs on the main thread, in between. What that thread holds is not let go before the
handler returns: to wait for it there is to wait for oneself, and locks that are reentrant let the
handler into what is half done.
"""

from __future__ import annotations

from threading import get_ident


class Inside:
    """The threads that are in the middle of something; true for those threads.

    Example:
        >>> if inside:
        ...     do_it_elsewhere()
        ... else:
        ...     with inside:
        ...         do_it()

    Attributes:
        threads: their identifiers, for where a tenth of a microsecond counts.
    """

    __slots__ = ("threads",)

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __bool__(self) -> bool:
        """Whether the calling thread is inside: it is a signal handler that asks."""
        return get_ident() in self.threads

    def __enter__(self) -> None:
        """Go in."""
        self.threads.add(get_ident())

    def __exit__(self, *_: object) -> None:
        """Come out."""
        self.threads.discard(get_ident())
