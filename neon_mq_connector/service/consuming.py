"""The consumers of a service by name: registered, run, looked after, stopped.

A thread can be started once. So a name keeps the factory of its thread, which makes a new one each
time that the consumer is to run again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from neon_mq_connector.aio.signatures import is_coroutine_function, name_of, takes_message
from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.consumers import (
    BaseConsumerThread,
    ConsumerThread,
    Retry,
    SelectConsumerThread,
)
from neon_mq_connector.consumers.consumer_thread import known_type
from neon_mq_connector.consumers.registration import AckMode, ErrorCallback, Registration
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.lifecycle import State
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.liveness import LivenessWatch
from neon_mq_connector.service.virtual_hosts import VirtualHosts
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.guard import Guard

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.registry")

#: How long starting consumers may take until it is left to them, in seconds.
_START_TIMEOUT = 10.0
_SETTLED = frozenset({State.CONSUMING, State.RECOVERING, State.FAILED, State.STOPPED})


class Consumers:
    """Keep the consumers of one service.

    `_lock` owns the dicts, the watch, the loop, and how often all were stopped. Services look at
    two of the dicts (and subclasses may change them) under the names ``consumers`` and
    ``consumer_properties`` of the connector. Threads are stopped outside of the lock.

    Args:
        service: has the configuration.
        hosts: has the connections.
        callers_loop: returns the loop that coroutines run on; by default it is on a thread of its
            own, which starts with the first of them.

    Attributes:
        stopped: the names of those that were stopped one by one, on purpose.
        watch: looks after them while they run.
    """

    def __init__(
        self,
        service: ConfiguredService,
        hosts: VirtualHosts,
        callers_loop: Callable[[], CoroutineLoop] | None = None,
    ) -> None:
        self.threads: dict[str, BaseConsumerThread] = {}
        self.properties: dict[str, dict[str, Any]] = {}
        self.stopped: set[str] = set()
        self.watch: LivenessWatch | None = None
        self._service = service
        self._hosts = hosts
        self._factories: dict[str, Callable[[], BaseConsumerThread]] = {}
        self._coroutine_loop = callers_loop or self._own_loop
        self._loop: CoroutineLoop | None = None
        self._stops = 0
        self._lock = threading.RLock()

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
        if concurrency is None:
            concurrency = prefetch if is_coroutine_function(callback) else 1
        registration = Registration(
            prefetch_count=prefetch,
            concurrency=concurrency,
            retry=retry
            or Retry(
                attempts=settings.max_tries,
                backoff=ExponentialBackoff(
                    first=settings.retry_delay, ceiling=settings.retry_delay_max
                ),
            ),
            inbox_max_bytes=settings.inbox_max_bytes,
            parked_max_length=settings.parked_max_length,
            hide_error_messages=settings.hide_error_messages,
            **registered,
        )
        if name in self.threads and skip_on_existing:
            LOG.info("consumer %r is registered already and is left as it is", name)
            return
        exchange = registration.exchange
        properties: dict[str, Any] = {
            "name": name,
            "connection_params": self._service.get_connection_params(vhost),
            "callback_func": callback,
            "error_func": on_error,
            "queue": registration.queue.name,
            "queue_reset": registration.queue_reset,
            "exchange": None if exchange is None else exchange.name,
            "exchange_reset": registration.exchange_reset,
            "exchange_type": known_type(None if exchange is None else exchange.type),
            "auto_ack": registration.ack is AckMode.ON_RECEIPT,
            "queue_exclusive": registration.queue.exclusive,
        }
        thread_class = _choose_engine(
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

        told = {"properties": properties, "restart_attempts": registration.restart_attempts}
        self.put(name, make_thread, {**told, "restarts": 0, "started": False})

    def _own_loop(self) -> CoroutineLoop:
        from neon_mq_connector.aio.loops import LoopThread  # with asyncio, which takes a while

        with self._lock:
            loop = self._loop
            if loop is None or loop.has_ended:
                loop = self._loop = LoopThread(f"mq-asyncio:{self._service.service_name}")
            return loop

    def put(
        self, name: str, factory: Callable[[], BaseConsumerThread], properties: dict[str, Any]
    ) -> None:
        """Keep a consumer, whose threads a factory makes; one of the same name is stopped first."""
        thread = factory()
        while True:
            with self._lock:
                before = self.threads.get(name)
                if before is None or before.ident is None or not before.is_consumer_alive:
                    self.properties[name] = properties
                    self._factories[name] = factory
                    self.threads[name] = thread  # last: a stop takes no lock, and looks here
                    self.stopped.discard(name)
                    break
            # stopped outside of the lock; meanwhile another may have been started
            before.join(self.stop_timeout)
        if before is not None:
            before.request_stop()

    def run(self, names: str | Iterable[str] | None, *, daemon: bool) -> None:
        """Start consumers, and look after all that run.

        Args:
            names: which; none for all. Those that run are left alone, unknown ones are logged.
            daemon: whether their threads let the process end.
        """
        stops = self._stops
        self._start(_listed(names) or tuple(self.threads), stops, daemon=daemon)
        with self._lock:
            if self.watch is None and self._stops == stops:
                name = f"mq-watch:{self._service.service_name}"
                watch = self.watch = LivenessWatch(name, self._service.settings, self.running)
                watch.start()  # and ends at once where a signal handler has stopped it here

    def _start(self, names: tuple[str, ...], stops: int, *, daemon: bool) -> None:
        """Start consumers, and wait until each consumes or cannot.

        None is started once all were stopped; ``stops`` is how often that had happened before.
        """
        started = []
        for name in names:
            if name not in self.threads:
                LOG.warning("there is no consumer %r to start", name)
                continue
            with self._lock:  # two callers must not start one thread
                thread = self._fresh(name)
                if self._stops != stops:  # after that, a stop finds the thread
                    break
                if thread is None:
                    continue
                thread.daemon = daemon
                self.properties[name]["started"] = True
                self.stopped.discard(name)
                thread.start()
            started.append(thread)
        deadline = time.monotonic() + _START_TIMEOUT
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
        timeout = self.stop_timeout
        for name in names:
            thread = self.threads.get(name)
            if thread is None:
                LOG.warning("there is no consumer %r to stop", name)
                continue
            self.properties[name]["started"] = False
            thread.request_stop(timeout)  # also where it is being started by another thread
            if thread.ident is not None:
                stopping.append(thread)
        return stopping

    def running(self) -> dict[str, BaseConsumerThread]:
        """Return the consumers that were started and not stopped."""
        with self._lock:
            return {
                name: thread
                for name, thread in self.threads.items()
                if self.properties[name].get("started")
            }

    def observe(self, restart: Callable[[str], object]) -> None:
        """Restart those that have ended by themselves and may be started once more."""
        for name, thread in self.running().items():
            if thread.is_alive() or not self.may_restart(name):
                continue  # one that lives recovers by itself, also where it has failed for now
            self.properties[name]["restarts"] += 1
            LOG.warning("consumer %r has ended (%s); restarting it", name, thread.snapshot.reason)
            with Guard("restarting consumer %r", name):
                restart(name)

    def may_restart(self, name: str) -> bool:
        """Whether a consumer has not been restarted as often as it may be."""
        allowed: int = self.properties[name]["restart_attempts"]
        return not 0 <= allowed <= self.properties[name]["restarts"]

    def stop(self, names: str | Iterable[str] | None) -> None:
        """Stop consumers, all if none is named, and wait for them."""
        listed = _listed(names)
        self.stopped.update(listed)
        self._stop_and_wait(listed or tuple(self.threads))

    def restart(self, name: str) -> None:
        """Stop a consumer and start it anew."""
        daemon, stops = self.threads[name].daemon, self._stops
        self._stop_and_wait((name,))
        self._start((name,), stops, daemon=daemon)

    def _stop_and_wait(self, names: tuple[str, ...]) -> None:
        wait_for_end(self.request_stop(names), time.monotonic() + self.stop_timeout)

    def begin_stop(
        self,
    ) -> tuple[list[BaseConsumerThread], LivenessWatch | None, CoroutineLoop | None]:
        """Ask everything to stop, and return what is to be waited for."""
        with self._lock:
            self._stops += 1
            watch, self.watch = self.watch, None
            loop, self._loop = self._loop, None
        if watch is not None:
            watch.cancel()
        return self.request_stop(tuple(self.threads)), watch, loop

    def after_fork_in_child(self) -> None:
        """Drop what runs in the parent only, and make new threads."""
        forking.keep(self.watch, self._loop, dict(self.threads))
        self._lock = threading.RLock()
        self.watch = self._loop = None
        for name, factory in self._factories.items():
            self.threads[name] = factory()
            self.properties[name]["started"] = False


def _listed(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return names as a tuple; a text is one name."""
    return (names,) if names and isinstance(names, str) else tuple(names or ())


def wait_for_end(threads: Iterable[BaseConsumerThread], deadline: float) -> None:
    """Wait for consumers that were asked to stop, until a moment of the monotonic clock."""
    for thread in threads:
        if thread.is_calling:
            continue
        thread.join(max(0.01, time_left(deadline)))
        if thread.is_alive():
            runs = bool(thread.consumer.dispatcher.running())
            why = "its callback is still running" if runs else "it waits for the broker"
            LOG.warning(
                "consumer %s (queue %r) has not ended in time: %s", thread.name, thread.queue, why
            )


def _choose_engine(
    callback: Callable[..., Any],
    on_error: Callable[..., Any] | None,
    queue: str,
    *,
    async_consumer: bool | None,
    default: type[BaseConsumerThread],
) -> type[BaseConsumerThread]:
    """Choose the class of a consumer's thread; `TypeError` where none can call the callback."""
    if not callable(callback):
        raise TypeError(f"queue {queue!r}: callback {callback!r} cannot be called")
    takes_message(callback, queue)  # raises where it takes neither that nor four arguments
    if is_coroutine_function(callback):
        if async_consumer is False:
            raise TypeError(
                f"queue {queue!r}: callback {name_of(callback)} is a coroutine function (`async "
                "def`), which async_consumer=False does not run; leave async_consumer out"
            )
        from neon_mq_connector.aio.consumer import AsyncConsumer  # with asyncio: it takes a while

        return AsyncConsumer
    if on_error is not None and is_coroutine_function(on_error):
        raise TypeError(
            f"queue {queue!r}: on_error {name_of(on_error)} is a coroutine function (`async def`), "
            f"and callback {name_of(callback)} is not, so nothing would await it"
        )
    if async_consumer is None:
        return default
    return SelectConsumerThread if async_consumer else ConsumerThread


def choose_ack_mode(ack: AckMode | str | None, auto_ack: bool) -> AckMode:
    """Return when messages are acknowledged; ``ack`` goes before ``auto_ack``."""
    if ack is None:
        return AckMode.ON_RECEIPT if auto_ack else AckMode.MANUAL
    try:
        return AckMode(ack)
    except ValueError:
        names = ", ".join(repr(mode.value) for mode in AckMode)
        raise ValueError(f"ack={ack!r} is none of {names}") from None
