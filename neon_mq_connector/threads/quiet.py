"""Keep pika from logging what this library reports itself, in the threads where it does.

For one refused connection pika logs half a dozen errors with tracebacks; an outage of a minute
would bury the one line that says what is wrong. Other threads' use of pika logs as ever; with this
library's loggers at DEBUG nothing is held back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

LOG = logging.getLogger("neon_mq_connector")

_quiet = ContextVar("quiet", default=False)


def _passes(_record: logging.LogRecord) -> bool:
    return not _quiet.get() or LOG.isEnabledFor(logging.DEBUG)


@contextlib.contextmanager
def quiet_pika() -> Iterator[None]:
    """Hold back what pika logs in this thread."""
    # a logger's filter does not hold for those below it
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "pika" and isinstance(logger, logging.Logger):
            logger.addFilter(_passes)
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)
