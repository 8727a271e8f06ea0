"""Call what users hand in, so that nothing it raises ends a thread or a loop that others need.

Every hook goes through a `Guard`: ``on_error``, the hooks of a consumer thread, close callbacks,
the ``delay`` of a backoff, the callbacks of futures, what timers call. A message's callback does
not: what it raises is the failure of its message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

LOG = logging.getLogger("neon_mq_connector.hooks")


class Guard:
    """Log what is raised in a `with` block, with its traceback, and go on behind the block.

    ``sys.exit()`` is an error like any other here. Only Ctrl-C on the main thread, whose loop may
    run coroutines, is passed on. A guard has no state, and may be used again and by any thread.

    What the block does is given as a format for the log, with its arguments; ``report`` is called
    with the error too.

    Examples:
        >>> with Guard("consumer %s: its error handler", name):
        ...     handler(error)
    """

    __slots__ = ("_arguments", "_report", "_what")

    def __init__(
        self,
        what: str,
        *arguments: object,
        report: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._what = what
        self._arguments = arguments
        self._report = report

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Log an error; return whether there was one that ends here."""
        if error is None:
            return False
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and isinstance(error, KeyboardInterrupt):
            return False
        LOG.error(f"{self._what} failed", *self._arguments, exc_info=error)
        if self._report is not None:
            self._report(error)
        return True


def name_of(callback: Callable[..., object]) -> str:
    """Return the name by which messages speak of a callback, which may have none."""
    with Guard("naming a callback"):
        return str(getattr(callback, "__qualname__", None) or repr(callback))
    return f"a {type(callback).__qualname__}"
