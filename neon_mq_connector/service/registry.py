"""The consumers of one connector by name: registered, started, stopped, replaced.

A thread can be started once. So a name keeps the factory of its thread, which makes a new one each
time that the consumer is to run again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers import BaseConsumerThread
from neon_mq_connector.deadline import time_left
from neon_mq_connector.lifecycle import State
from neon_mq_connector.service.health import (
    ConsumerHealth,
    Health,
    describe_connections,
    describe_consumer,
)
from neon_mq_connector.service.liveness import LivenessWatch

LOG = logging.getLogger("neon_mq_connector.registry")

#: States in which a consumer that was started gets nothing any more.
_ENDED = frozenset(state.value for state in (State.STOPPING, State.STOPPED, State.FAILED))
_SETTLED = frozenset({State.CONSUMING, State.RECOVERING, State.FAILED, State.STOPPED})


class ConsumerRegistry:
    """Keep the consumers of a connector.

    `_lock` owns the two dicts, which services look at (and subclasses may change) under the names
    ``consumers`` and ``consumer_properties`` of the connector. Threads are stopped outside of it.

    Attributes:
        stopped: the names of those that were stopped one by one, on purpose.
    """

    def __init__(self) -> None:
        self.threads: dict[str, BaseConsumerThread] = {}
        self.properties: dict[str, dict[str, Any]] = {}
        self.stopped: set[str] = set()
        self._factories: dict[str, Callable[[], BaseConsumerThread]] = {}
        self._lock = threading.RLock()

    def register(
        self,
        name: str,
        factory: Callable[[], BaseConsumerThread],
        properties: dict[str, Any],
        *,
        timeout: float,
    ) -> None:
        """Register a consumer; one of the same name is stopped first and replaced.

        Args:
            name: the name.
            factory: makes its thread.
            properties: its entry in ``consumer_properties``.
            timeout: how long to wait for the one that is replaced, in seconds.
        """
        thread = factory()
        while True:
            with self._lock:
                before = self.threads.get(name)
                if before is None or before.ident is None or not before.is_consumer_alive:
                    self.threads[name] = thread
                    self.properties[name] = properties
                    self._factories[name] = factory
                    self.stopped.discard(name)
                    break
            # stopped outside of the lock; meanwhile another may have been started
            before.join(timeout)
        if before is not None:
            before.request_stop()

    def start(
        self,
        names: Iterable[str],
        *,
        daemon: bool,
        timeout: float,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start consumers, and wait until each consumes or is known not to.

        Args:
            names: which; those that run already are left alone, unknown ones are logged.
            daemon: whether their threads let the process end.
            timeout: how long to wait in all, in seconds.
            is_cancelled: whether to start no more of them.
        """
        started = []
        for name in names:
            if is_cancelled():
                break
            if name not in self.threads:
                LOG.warning("there is no consumer %r to start", name)
                continue
            with self._lock:  # two callers must not start one thread
                thread = self._fresh(name)
                if thread is None:
                    continue
                thread.daemon = daemon
                self.properties[name]["started"] = True
                self.stopped.discard(name)
                thread.start()
            started.append(thread)
        deadline = time.monotonic() + timeout
        for thread in started:
            thread.consumer.lifecycle.wait_for(_SETTLED, time_left(deadline))

    def _fresh(self, name: str) -> BaseConsumerThread | None:
        """Return a thread that can be started; None when that name is running. Needs the lock."""
        thread = self.threads[name]
        if thread.is_alive() and thread.is_consumer_alive:
            return None
        if thread.is_alive():
            thread.request_stop()  # it failed, and may be about to try again
        if thread.ident is not None or not thread.can_start:
            thread = self.threads[name] = self._factories[name]()
        return thread

    def request_stop(self, names: Iterable[str]) -> list[BaseConsumerThread]:
        """Ask consumers to stop, and return the threads to wait for; unknown names are logged."""
        stopping = []
        for name in names:
            thread = self.threads.get(name)
            if thread is None:
                LOG.warning("there is no consumer %r to stop", name)
                continue
            self.properties[name]["started"] = False
            thread.request_stop()  # also where it is being started by another thread
            if thread.ident is not None:
                stopping.append(thread)
        return stopping

    def after_fork_in_child(self) -> None:
        """Make new threads in a child process, where those of the parent do not run."""
        self._lock = threading.RLock()
        for name, factory in self._factories.items():
            self.threads[name] = factory()
            self.properties[name]["started"] = False

    def running(self) -> dict[str, BaseConsumerThread]:
        """Return the consumers that were started and not stopped."""
        with self._lock:
            return {
                name: thread
                for name, thread in self.threads.items()
                if self.properties[name].get("started")
            }

    def ended(self) -> Iterator[str]:
        """Iterate over those that have ended by themselves and may be started once more."""
        for name, thread in self.running().items():
            if thread.is_alive():
                continue  # it recovers by itself, also where it has failed for now
            properties = self.properties[name]
            if _may_restart(properties):
                properties["restarts"] += 1
                LOG.warning(
                    "consumer %r has ended (%s); restarting it", name, thread.snapshot.reason
                )
                yield name

    def health(
        self,
        watch: LivenessWatch | None,
        connections: list[Connections],
        is_off: str,
        *,
        stacks: bool,
    ) -> Health:
        """Return the health of the connector.

        Args:
            watch: looks after the consumers, if they run.
            connections: those of the connector.
            is_off: why it does nothing; empty when it runs.
            stacks: whether to add the stacks of the oldest callbacks.
        """
        complaints = {} if watch is None else watch.complaints
        started = self.running()
        consumers = {
            name: describe_consumer(name, thread, complaint=complaints.get(name, ""), stacks=stacks)
            for name, thread in list(self.threads.items())
        }
        reasons = [
            f"consumer {name!r} is {each.state}: {each.reason}{_held_up(each)}"
            for name, each in consumers.items()
            if (name in started and not each.healthy)
            or (each.state in _ENDED and name not in self.stopped)
        ]
        stuck = [
            f"consumer {name!r} has ended"
            for name, thread in started.items()
            if not thread.is_alive() and not _may_restart(self.properties[name])
        ]
        if watch is not None:
            stuck += [f"consumer {name!r}: {problem}" for name, problem in watch.stuck.items()]
            if problem := watch.standstill():
                reasons.append(problem)
                stuck.append(problem)
        reasons = [is_off] if is_off else reasons
        publishes: Counter[str] = Counter()
        for each in connections:
            publishes.update(each.publish_outcomes())
        return Health(
            healthy=not reasons,
            reasons=tuple(reasons),
            consumers=consumers,
            connections=describe_connections(connections),
            stuck=tuple(stuck),
            publishes=dict(publishes),
        )


def _may_restart(properties: Mapping[str, Any]) -> bool:
    allowed: int = properties["restart_attempts"]
    return not 0 <= allowed <= properties["restarts"]


def wait_for_end(threads: Iterable[BaseConsumerThread], deadline: float) -> bool:
    """Wait for consumers that were asked to stop, until a moment of the monotonic clock.

    Returns:
        Whether all have ended; those that have not are named in the log.
    """
    all_ended = True
    for thread in threads:
        if thread.is_calling:
            continue
        thread.join(max(0.01, time_left(deadline)))
        if thread.is_alive():
            all_ended = False
            LOG.warning(
                "consumer %s (queue %r) has not ended in time: its callback is still running",
                thread.name,
                thread.queue,
            )
    return all_ended


def _held_up(consumer: ConsumerHealth) -> str:
    """Say what a consumer waits for before it attaches anew: its callbacks run on its thread."""
    age = consumer.oldest_callback_age
    if age is None or consumer.state != State.RECOVERING.value:
        return ""
    return f"; its oldest callback has been running for {age:.0f} s"
