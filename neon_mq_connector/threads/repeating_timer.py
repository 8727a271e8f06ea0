"""Call something again and again at an interval, on a thread of its own, until cancelled."""

from __future__ import annotations

import logging
import threading

from neon_mq_connector.errors import MQError
from neon_mq_connector.threads.guard import Guard

LOG = logging.getLogger("neon_mq_connector.timer")


class RepeatingTimer(threading.Timer):
    """A `threading.Timer` that does not end after the first time.

    Args are those of `threading.Timer`: the interval in seconds, the function, its arguments. The
    first call comes after one interval. A call that raises is logged; the next one comes all the
    same.
    """

    def run(self) -> None:
        """Call the function at each interval; called by `start`."""
        while not self.finished.wait(self.interval):
            with Guard("timer %s: a call", self.name):
                try:
                    self.function(*self.args, **self.kwargs)
                except MQError as error:
                    LOG.warning(
                        "timer %s: %s; it is tried again in %g s", self.name, error, self.interval
                    )
