"""A service that does something from time to time: tell of its presence, look after consumers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from neon_mq_connector.link import outage_of
from neon_mq_connector.service.consuming import ConsumingService
from neon_mq_connector.threads.errands import RepeatingTimer
from neon_mq_connector.threads.quiet import quiet_pika


class TimedService(ConsumingService):
    """Call `sync` and `observe_consumers` while the service runs; `_mq_lock` owns the timers."""

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._mq_timers: dict[str, RepeatingTimer] = {}

    @property
    def observer_thread(self) -> RepeatingTimer:
        """The timer that looks after the consumers."""
        return self._timer("observe_consumers", self.observe_period)

    @property
    def sync_thread(self) -> RepeatingTimer:
        """The timer that publishes the service's presence."""
        return self._timer("sync", self.sync_period)

    def _timer(self, method: str, period: float) -> RepeatingTimer:
        """Return the timer of a method; a new one if there is none, or if it was stopped."""
        timer = self._mq_timers.get(method)
        if timer is None or timer.finished.is_set():
            timer = RepeatingTimer(period, functools.partial(self._on_timer, method))
            timer.name = f"mq-{method}:{self.service_name}"
            timer.daemon = True
            self._mq_timers[method] = timer
        return timer

    def _on_timer(self, method: str) -> None:
        outage = outage_of(self._all_parameters(self.vhost))
        with outage.seen_by((method, id(self))), quiet_pika():
            getattr(self, method)()

    def _start_timer(self, method: str, period: float) -> None:
        with self._mq_lock:  # two callers must not start one thread
            timer = self._timer(method, period)
            if timer.ident is None:
                timer.start()

    def _stop_timer(self, method: str) -> None:
        timer = self._mq_timers.pop(method, None)
        if timer is not None:
            timer.cancel()

    def stop_sync_thread(self) -> None:
        """Stop publishing the service's presence."""
        self._stop_timer("sync")

    def stop_observer_thread(self) -> None:
        """Stop looking after the consumers."""
        self._stop_timer("observe_consumers")
