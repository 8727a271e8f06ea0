"""What a service does from time to time, on threads."""

from __future__ import annotations

import functools
import threading

from neon_mq_connector.deadline import time_left
from neon_mq_connector.link import outage_of
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.errands import RepeatingTimer
from neon_mq_connector.threads.quiet import quiet_pika


class Timers:
    """Call methods of a service, each at an interval of its own; `_lock` owns the timers.

    Args:
        service: has the methods, which are looked up for each call.
    """

    def __init__(self, service: ConfiguredService) -> None:
        self._service = service
        self._lock = threading.RLock()
        self._timers: dict[str, RepeatingTimer] = {}

    def timer(self, method: str, period: float) -> RepeatingTimer:
        """Return the timer of a method; a new one if there is none, or if it was stopped."""
        with self._lock:
            timer = self._timers.get(method)
            if timer is None or timer.finished.is_set():
                timer = RepeatingTimer(period, functools.partial(self._call, method))
                timer.name = f"mq-{method}:{self._service.service_name}"
                timer.daemon = True
                self._timers[method] = timer
            return timer

    def start(self, method: str, period: float) -> None:
        """Start the timer of a method, unless it runs."""
        with self._lock:  # two callers must not start one thread
            timer = self.timer(method, period)
            if timer.ident is None:
                timer.start()

    def stop(self, method: str) -> None:
        """End the timer of a method, without waiting."""
        timer = self._timers.get(method)
        if timer is not None:
            timer.cancel()

    def join(self, deadline: float) -> None:
        """Wait for those that were ended, until a moment of the monotonic clock."""
        this = threading.current_thread()
        for timer in list(self._timers.values()):
            if timer is not this and timer.finished.is_set() and timer.is_alive():
                timer.join(time_left(deadline))

    def _call(self, method: str) -> None:
        outage = outage_of(server_parameters(self._service, self._service.vhost))
        with outage.seen_by((method, id(self._service))), quiet_pika():
            getattr(self._service, method)()

    def after_fork_in_child(self) -> None:
        """Drop the timers of the parent."""
        forking.keep(self._timers)
        self._lock = threading.RLock()
        self._timers = {}
