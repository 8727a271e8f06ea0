"""The consumers of a service at work: registered, run, looked after, stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from neon_mq_connector.consumers import BaseConsumerThread, Retry
from neon_mq_connector.consumers.registration import ErrorCallback, Registration
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.engines import (
    choose_concurrency,
    choose_engine,
    default_retry,
    thread_arguments,
)
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.service.registry import ConsumerRegistry, wait_for_end
from neon_mq_connector.service.virtual_hosts import VirtualHosts
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.guard import Guard

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.service")

#: How long starting consumers may take until it is left to them, in seconds.
_START_TIMEOUT = 10.0


class Ending(NamedTuple):
    """What a stop has to wait for."""

    threads: list[BaseConsumerThread]
    watch: LivenessWatch | None
    loop: CoroutineLoop | None


class Consumers:
    """Register, run and stop the consumers of one service.

    `_lock` owns the watch, the loop, and how often all were stopped.

    Args:
        service: has the configuration.
        hosts: has the connections.
        callers_loop: returns the loop that coroutines run on; by default it is on a thread of its
            own, which starts with the first of them.

    Attributes:
        registry: the consumers by name.
        watch: looks after them while they run.
    """

    def __init__(
        self,
        service: ConfiguredService,
        hosts: VirtualHosts,
        callers_loop: Callable[[], CoroutineLoop] | None,
    ) -> None:
        self.registry = ConsumerRegistry()
        self.watch: LivenessWatch | None = None
        self._service = service
        self._hosts = hosts
        self._coroutine_loop = callers_loop or self._own_loop
        self._lock = threading.RLock()
        self._loop: CoroutineLoop | None = None
        self._stops = 0

    @property
    def stop_timeout(self) -> float:
        """How long a stop may take, in seconds."""
        try:
            return self._service.settings.stop_timeout
        except ConfigurationError:
            return _START_TIMEOUT

    def register(
        self,
        name: str,
        vhost: str,
        callback: Callable[..., Any],
        on_error: ErrorCallback,
        *,
        prefetch_count: int | None,
        concurrency: int | None,
        retry: Retry | None,
        async_consumer: bool | None,
        default_class: type[BaseConsumerThread],
        skip_on_existing: bool,
        dedicated_connection: bool,
        **registered: Any,
    ) -> None:
        """Register a consumer; see `MQConnector.register_consumer`.

        Args:
            default_class: the class of its thread where ``async_consumer`` does not say.
            registered: further fields of its `Registration`.
        """
        settings = self._service.settings
        prefetch = prefetch_count or settings.prefetch_count
        registration = Registration(
            prefetch_count=prefetch,
            concurrency=choose_concurrency(concurrency, callback, prefetch),
            retry=retry or default_retry(settings),
            inbox_max_bytes=settings.inbox_max_bytes,
            parked_max_length=settings.parked_max_length,
            hide_error_messages=settings.hide_error_messages,
            **registered,
        )
        if name in self.registry.threads and skip_on_existing:
            LOG.info("consumer %r is registered already and is left as it is", name)
            return
        properties: dict[str, Any] = {
            "name": name,
            "connection_params": self._service.get_connection_params(vhost),
            "callback_func": callback,
            "error_func": on_error,
            **thread_arguments(registration),
        }
        thread_class = choose_engine(
            callback,
            on_error,
            registration.queue.name,
            async_consumer=async_consumer,
            default=default_class,
        )

        def make_thread() -> BaseConsumerThread:
            options: dict[str, Any] = {}
            if thread_class.runs_coroutines:
                options["loop"] = self._coroutine_loop()
                options["stop_timeout"] = self.stop_timeout
            hosts = self._hosts
            connect = hosts.new_connections if dedicated_connection else hosts.connections
            return thread_class(
                **properties,
                **options,
                registration=registration,
                connections=connect(vhost),
                owns_connections=dedicated_connection,
            )

        self.registry.register(
            name,
            make_thread,
            {
                "properties": properties,
                "restart_attempts": registration.restart_attempts,
                "restarts": 0,
                "started": False,
            },
            timeout=settings.stop_timeout,
        )

    def _own_loop(self) -> CoroutineLoop:
        from neon_mq_connector.aio.loops import LoopThread  # with asyncio, which takes a while

        with self._lock:
            loop = self._loop
            if loop is None or loop.has_ended:
                loop = self._loop = LoopThread(f"mq-asyncio:{self._service.service_name}")
            return loop

    def run(self, names: tuple[str, ...], *, daemon: bool) -> None:
        """Start consumers, all if none is named, and look after them; see `run_consumers`."""
        stops = self._stops
        self._start(names or tuple(self.registry.threads), daemon=daemon)
        with self._lock:
            if self.watch is None and self._stops == stops:
                self.watch = LivenessWatch(
                    f"mq-watch:{self._service.service_name}",
                    self._service.settings,
                    self.registry.running,
                )
                self.watch.start()

    def _start(self, names: tuple[str, ...], *, daemon: bool) -> None:
        stops = self._stops
        self.registry.start(
            names,
            daemon=daemon,
            timeout=_START_TIMEOUT,
            is_cancelled=lambda: self._stops != stops,
        )

    def stop(self, names: tuple[str, ...]) -> None:
        """Stop consumers, all if none is named, and wait for them."""
        self.registry.stopped.update(names)
        self._stop_and_wait(names or tuple(self.registry.threads))

    def restart(self, name: str) -> None:
        """Stop a consumer and start it anew; see `MQConnector.restart_consumer`."""
        daemon = self.registry.threads[name].daemon
        self._stop_and_wait((name,))
        self._start((name,), daemon=daemon)

    def _stop_and_wait(self, names: tuple[str, ...]) -> None:
        threads = self.registry.request_stop(names)
        wait_for_end(threads, time.monotonic() + self.stop_timeout)

    def observe(self, restart: Callable[[str], object]) -> None:
        """Restart the consumers that have ended without being stopped."""
        for name in self.registry.ended():
            with Guard("restarting consumer %r", name):
                restart(name)

    def begin_stop(self) -> Ending:
        """Ask everything to stop, and return what is to be waited for."""
        with self._lock:
            self._stops += 1
            watch, self.watch = self.watch, None
            loop, self._loop = self._loop, None
        if watch is not None:
            watch.stop()
        return Ending(self.registry.request_stop(tuple(self.registry.threads)), watch, loop)

    def after_fork_in_child(self) -> None:
        """Make new threads, and drop what runs in the parent only."""
        forking.keep(self.watch, self._loop, dict(self.registry.threads))
        self._lock = threading.RLock()
        self.watch = self._loop = None
        self.registry.after_fork_in_child()
