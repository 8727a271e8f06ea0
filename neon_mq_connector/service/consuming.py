"""A service that consumes: what is registered, what runs, and how it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pika.exchange_type import ExchangeType

from neon_mq_connector.backoff import ExponentialBackoff
from neon_mq_connector.config.environment import env_flag
from neon_mq_connector.consumers import (
    BaseConsumerThread,
    ConsumerThread,
    Retry,
    SelectConsumerThread,
)
from neon_mq_connector.consumers.consumer_thread import known_type, own_queue, type_name
from neon_mq_connector.consumers.registration import (
    AckMode,
    ErrorCallback,
    MessageCallback,
    MessageCoroutine,
    Registration,
    bounded_name,
    dead_queue_name,
)
from neon_mq_connector.envelope import new_id
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.lifecycle import State
from neon_mq_connector.service.engines import choose_concurrency, choose_engine
from neon_mq_connector.service.health import Health, describe_connections, describe_consumer
from neon_mq_connector.service.liveness import LivenessPolicy, LivenessWatch
from neon_mq_connector.service.pipelined import PipelinedService
from neon_mq_connector.service.registry import ConsumerRegistry, wait_for_end
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.topology import Exchange, Queue

if TYPE_CHECKING:
    from neon_mq_connector.aio.loops import CoroutineLoop

LOG = logging.getLogger("neon_mq_connector.service")

#: States in which a consumer that was started gets nothing any more.
_ENDED = frozenset(state.value for state in (State.STOPPING, State.STOPPED, State.FAILED))
#: How long starting consumers may take until it is left to them, in seconds.
_START_TIMEOUT = 10.0


class ConsumingService(PipelinedService):
    """Register, start, stop and look after consumers."""

    #: Whether functions are served by a `SelectConsumerThread` where a registration does not say,
    #: and the environment variable ``MQ_ASYNC_CONSUMERS`` is not set.
    async_consumers_enabled: bool = False

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._registry = ConsumerRegistry()
        self.consumers: dict[str, Any] = self._registry.threads
        self.consumer_properties: dict[str, dict[str, Any]] = self._registry.properties
        self._mq_running = False
        self._mq_stops = 0
        self._mq_watch: LivenessWatch | None = None
        self._mq_loop: CoroutineLoop | None = None

    @property
    def consumer_thread_cls(self) -> type[BaseConsumerThread]:
        """The class of consumers of functions that are registered without saying which."""
        enabled = env_flag("MQ_ASYNC_CONSUMERS", self.async_consumers_enabled)
        return SelectConsumerThread if enabled else ConsumerThread

    def register_consumer(
        self,
        name: str,
        vhost: str,
        queue: str,
        callback: MessageCallback | MessageCoroutine,
        on_error: ErrorCallback | None = None,
        auto_ack: bool = True,
        queue_reset: bool = False,
        exchange: str | None = None,
        exchange_type: str | ExchangeType | None = None,
        exchange_reset: bool = False,
        queue_exclusive: bool = False,
        skip_on_existing: bool = False,
        restart_attempts: int = -1,
        async_consumer: bool | None = None,
        *,
        ack: AckMode | str | None = None,
        prefetch_count: int | None = None,
        concurrency: int | None = None,
        retry: Retry | None = None,
        durable: bool = False,
        arguments: Mapping[str, Any] | None = None,
        routing_keys: Sequence[str] = (),
        priority: int | None = None,
        on_park_failure: Literal["pause", "reject"] = "pause",
        dedicated_connection: bool = False,
    ) -> None:
        """Register a consumer of a queue; nothing is opened before `run` or `run_consumers`.

        Args:
            name: the name under which it is kept; one of the same name is stopped and replaced.
            vhost: the virtual host, as it is; usually `vhost`.
            queue: the queue, declared if it is missing and used as it is if it exists; empty has
                the
                broker name one, which is then this consumer's alone.
            callback: called with ``(channel, method, properties, body)`` for each message. It may
                be a coroutine function (`async def`), which takes these four, or one aio-pika
                message.
            on_error: called with the consumer's thread and an exception: once per outage, and for
                each callback that raised. Logs by default. It may be a coroutine function where the
                callback is one.
            auto_ack: acknowledge a message when its callback starts; otherwise the callback does.
            queue_reset: delete the queue before the first attach.
            exchange: declare this exchange and bind the queue to it.
            exchange_type: the type of the exchange (direct).
            exchange_reset: delete the exchange before the first attach.
            queue_exclusive: only this consumer's connection may use the queue.
            skip_on_existing: leave one of the same name alone.
            restart_attempts: how many attempts to attach again may fail while the broker answers,
                and how often `observe_consumers` restarts it; -1 for any number.
            async_consumer: for a callback that is a function: whether a `SelectConsumerThread`
                consumes, which has hooks for its connection. By default the environment variable
                ``MQ_ASYNC_CONSUMERS`` says so, or `async_consumers_enabled`. A coroutine function
                is always served by an `AsyncConsumer`.
            ack: instead of ``auto_ack``: ``"on_receipt"``, ``"on_success"`` or ``"manual"``.
            prefetch_count: how many messages the broker sends ahead (the setting of that name, 50).
            concurrency: how many callbacks may run side by side. By default that is 1 for a
                function; for a coroutine function it is the prefetch count, as users of asyncio
                expect it: with 1 its messages are handled one after another.
            retry: what becomes of a message whose callback raises (3 attempts, then parked in
                ``<queue>.dead``); it takes effect where messages are not acknowledged on receipt.
            durable: declare the queue durable.
            arguments: arguments of the queue, such as ``{"x-queue-type": "quorum"}``.
            routing_keys: bind with these; the queue's own name by default.
            priority: of this consumer over others of the queue.
            on_park_failure: what to do with a message that can neither be handled nor parked:
                ``"pause"`` keeps it and reports the consumer as failed until parking works again,
                ``"reject"`` has the broker drop it, or dead-letter it, as it does too where
                ``arguments`` name a dead-letter exchange.
            dedicated_connection: do not share the connection that consumes.

        Raises:
            TypeError: the callback is a coroutine function that takes neither four arguments nor
                one, or its ``on_error`` is one and the callback is not. Or it cannot be called, a
                name is no text, or ``retry`` is no `Retry`.
            ValueError: a name is too long for AMQP, or a number out of its bounds.
            ImportError: it takes an aio-pika message, and the extra ``aio`` is not installed.
            ConfigurationError: there are no credentials for the service.
        """
        if on_park_failure not in ("pause", "reject"):
            raise ValueError(f"on_park_failure={on_park_failure!r} is neither 'pause' nor 'reject'")
        ours_alone = not queue and not queue_exclusive
        described = (
            own_queue("", self.settings.subscriber_queue_expires)
            if ours_alone
            else Queue(queue, durable, queue_exclusive, arguments=arguments or {})
        )
        prefetch = prefetch_count or self.settings.prefetch_count
        self._register(
            name,
            vhost,
            Registration(
                queue=described,
                exchange=Exchange(exchange, type_name(exchange_type)) if exchange else None,
                routing_keys=tuple(routing_keys),
                queue_reset=queue_reset,
                exchange_reset=exchange_reset,
                ack=_ack_mode(ack, auto_ack),
                prefetch_count=prefetch,
                concurrency=choose_concurrency(concurrency, callback, prefetch),
                retry=retry or self._default_retry(),
                consumer_arguments={} if priority is None else {"x-priority": priority},
                delete_on_stop=ours_alone,
                dead_queue=dead_queue_name(queue) if queue and not queue_exclusive else None,
                inbox_max_bytes=self.settings.inbox_max_bytes,
                parked_max_length=self.settings.parked_max_length,
                restart_attempts=restart_attempts,
                reject_when_unparkable=on_park_failure == "reject"
                or "x-dead-letter-exchange" in described.arguments,
            ),
            callback,
            on_error,
            async_consumer=async_consumer,
            skip_on_existing=skip_on_existing,
            dedicated_connection=dedicated_connection,
        )

    def register_subscriber(
        self,
        name: str,
        vhost: str,
        callback: MessageCallback | MessageCoroutine,
        on_error: ErrorCallback | None = None,
        exchange: str | None = None,
        exchange_reset: bool = False,
        auto_ack: bool = True,
        skip_on_existing: bool = False,
        restart_attempts: int = -1,
        async_consumer: bool | None = None,
        *,
        ack: AckMode | str | None = None,
        prefetch_count: int | None = None,
        concurrency: int | None = None,
        retry: Retry | None = None,
        dedicated_connection: bool = False,
    ) -> None:
        """Register a subscriber: what is published to a fanout exchange reaches each of them.

        Its queue is its own: it survives an outage of 5 minutes, and goes when the subscriber
        stops.

        Args:
            name: as for `register_consumer`, like all that is not named here.
            vhost: the virtual host, as it is.
            callback: called with ``(channel, method, properties, body)`` for each message, or a
                coroutine function.
            on_error: called with the consumer's thread and an exception.
            exchange: the exchange to subscribe to.
            exchange_reset: delete the exchange before the first attach.
            auto_ack: acknowledge a message when its callback starts.
            skip_on_existing: leave one of the same name alone.
            restart_attempts: how many attempts to attach again may fail while the broker answers,
                and how often `observe_consumers` restarts it; -1 for any number.
            async_consumer: whether a `SelectConsumerThread` consumes.
            ack: instead of ``auto_ack``.
            prefetch_count: how many messages the broker sends ahead.
            concurrency: how many callbacks may run side by side.
            retry: what becomes of a message whose callback raises; it is parked in
                ``<service>.<exchange>.dead``.
            dedicated_connection: do not share the connection that consumes.
        """
        source = exchange or ""
        subscription = f"{self.service_name}.{source or name}"
        prefetch = prefetch_count or self.settings.prefetch_count
        self._register(
            name,
            vhost,
            Registration(
                queue=own_queue(
                    bounded_name(subscription, f".{new_id()[:12]}"),
                    self.settings.subscriber_queue_expires,
                ),
                exchange=Exchange(source, "fanout") if source else None,
                exchange_reset=exchange_reset,
                ack=_ack_mode(ack, auto_ack),
                prefetch_count=prefetch,
                concurrency=choose_concurrency(concurrency, callback, prefetch),
                retry=retry or self._default_retry(),
                delete_on_stop=True,
                dead_queue=dead_queue_name(subscription),
                inbox_max_bytes=self.settings.inbox_max_bytes,
                parked_max_length=self.settings.parked_max_length,
                restart_attempts=restart_attempts,
            ),
            callback,
            on_error,
            async_consumer=async_consumer,
            skip_on_existing=skip_on_existing,
            dedicated_connection=dedicated_connection,
        )

    def _register(
        self,
        name: str,
        vhost: str,
        registration: Registration,
        callback: MessageCallback | MessageCoroutine,
        on_error: ErrorCallback | None,
        *,
        async_consumer: bool | None,
        skip_on_existing: bool,
        dedicated_connection: bool,
    ) -> None:
        if name in self.consumers and skip_on_existing:
            LOG.info("consumer %r is registered already and is left as it is", name)
            return
        parameters = self.get_connection_params(vhost)
        exchange = registration.exchange
        properties: dict[str, Any] = {
            "name": name,
            "connection_params": parameters,
            "queue": registration.queue.name,
            "queue_reset": registration.queue_reset,
            "callback_func": callback,
            "exchange": None if exchange is None else exchange.name,
            "exchange_reset": registration.exchange_reset,
            "exchange_type": known_type(None if exchange is None else exchange.type),
            "error_func": on_error or self.default_error_handler,
            "auto_ack": registration.ack is AckMode.ON_RECEIPT,
            "queue_exclusive": registration.queue.exclusive,
        }
        thread_class = choose_engine(
            callback,
            on_error,
            registration.queue.name,
            async_consumer=async_consumer,
            default=self.consumer_thread_cls,
        )

        def make_thread() -> BaseConsumerThread:
            connections = (
                self._open_connections(vhost) if dedicated_connection else self._connections(vhost)
            )
            return thread_class(
                **properties,
                **self._options_of(thread_class),
                registration=registration,
                connections=connections,
                owns_connections=dedicated_connection,
            )

        self._registry.register(
            name,
            make_thread,
            {
                "properties": properties,
                "restart_attempts": registration.restart_attempts,
                "restarts": 0,
                "started": False,
            },
            timeout=self.settings.stop_timeout,
        )

    def _options_of(self, engine: type[BaseConsumerThread]) -> dict[str, Any]:
        """Give what consumers of coroutines need and others do not."""
        if not engine.runs_coroutines:
            return {}
        return {"loop": self._coroutine_loop(), "stop_timeout": self.settings.stop_timeout}

    def _coroutine_loop(self) -> CoroutineLoop:
        """Give the loop that callbacks run on, if they are coroutines; it starts with the first."""
        from neon_mq_connector.aio.loops import LoopThread  # with asyncio, which takes a while

        with self._mq_lock:
            loop = self._mq_loop
            if loop is None or loop.has_ended:
                made = LoopThread(f"mq-asyncio:{self.service_name}")
                if self._mq_loop is loop:  # no signal handler was quicker
                    self._mq_loop = made
                loop = self._mq_loop or made
            return loop

    def _default_retry(self) -> Retry:
        settings = self.settings
        return Retry(
            attempts=settings.max_tries,
            backoff=ExponentialBackoff(
                first=settings.retry_delay, ceiling=settings.retry_delay_max
            ),
        )

    def run_consumers(self, names: Iterable[str] | None = None, daemon: bool = True) -> None:
        """Start consumers and wait, for 10 s at most, until each consumes or is known not to.

        Args:
            names: which; None or empty for all. Those that run are left alone, unknown ones are
                logged.
            daemon: whether the process may end while they run.
        """
        stops = self._mq_stops
        self._start_consumers(tuple(names or self.consumers), daemon=daemon)
        with self._mq_lock:
            if self._mq_watch is None and self._mq_stops == stops:
                self._mq_watch = LivenessWatch(
                    f"mq-watch:{self.service_name}",
                    LivenessPolicy(
                        slow_callback_after=self.settings.slow_callback_after,
                        ack_timeout=self.settings.ack_timeout,
                        ack_timeout_warning=self.settings.ack_timeout_warning,
                        forgotten_ack_after=self.settings.forgotten_ack_after,
                        stalled_after=self.settings.stalled_after,
                    ),
                    self._registry.running,
                )
                self._mq_watch.start()

    def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them.

        Args:
            names: which; None or empty for all, which leaves the service unhealthy: it does nothing
                any more.
        """
        chosen = tuple(names or ())
        self._registry.stopped.update(chosen)
        threads = self._registry.request_stop(chosen or tuple(self.consumers))
        wait_for_end(threads, time.monotonic() + self._stop_timeout())

    def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew.

        Args:
            name: the name it was registered under.

        Raises:
            KeyError: no consumer of that name is registered.
        """
        daemon = self.consumers[name].daemon
        threads = self._registry.request_stop((name,))
        wait_for_end(threads, time.monotonic() + self._stop_timeout())
        self._start_consumers((name,), daemon=daemon)

    def _start_consumers(self, names: tuple[str, ...], *, daemon: bool) -> None:
        stops = self._mq_stops
        self._registry.start(
            names,
            daemon=daemon,
            timeout=_START_TIMEOUT,
            is_cancelled=lambda: self._mq_stops != stops,
        )

    def check_health(self) -> bool:
        """Say whether the connector runs and each started consumer consumes.

        Returns:
            False before `run`, while one of them is recovering, has failed or gets nothing, and
            after `stop`. `health` says more.
        """
        return self.health().healthy

    def health(self, *, stacks: bool = False) -> Health:
        """Say how the connector, its consumers and its connections are.

        Args:
            stacks: whether to say where each consumer's oldest callback is.

        Returns:
            A snapshot: whether all is well, what is not and why, and counts per consumer.
        """
        watch = self._mq_watch
        complaints = {} if watch is None else watch.complaints
        started = self._registry.running()
        with self._mq_lock:
            connections = list(self._mq_connections.values())
        consumers = {
            name: describe_consumer(name, thread, complaint=complaints.get(name, ""), stacks=stacks)
            for name, thread in list(self.consumers.items())
        }
        reasons = [
            f"consumer {name!r} is {each.state}: {each.reason}"
            for name, each in consumers.items()
            if (name in started and not each.healthy)
            or (each.state in _ENDED and name not in self._registry.stopped)
        ]
        if watch is not None and (problem := watch.standstill()):
            reasons.append(problem)
        if not self._mq_running:
            reasons = [f"service {self.service_name!r} is not running"]
        return Health(
            healthy=not reasons,
            reasons=tuple(reasons),
            consumers=consumers,
            connections=describe_connections(connections),
        )

    def observe_consumers(self) -> None:
        """Start anew the consumers that have ended though nobody stopped them."""
        for name, thread in self._registry.running().items():
            if thread.is_alive():
                continue  # it recovers by itself, also where it has failed for now
            properties = self.consumer_properties[name]
            allowed, done = properties["restart_attempts"], properties["restarts"]
            if 0 <= allowed <= done:
                continue
            properties["restarts"] = done + 1
            LOG.warning("consumer %r has ended (%s); restarting it", name, thread.snapshot.reason)
            with Guard("restarting consumer %r", name):
                self.restart_consumer(name)

    def _stop_timeout(self) -> float:
        try:
            return self.settings.stop_timeout
        except ConfigurationError:
            return _START_TIMEOUT


def _ack_mode(ack: AckMode | str | None, auto_ack: bool) -> AckMode:
    if ack is None:
        return AckMode.ON_RECEIPT if auto_ack else AckMode.MANUAL
    try:
        return AckMode(ack)
    except ValueError:
        names = ", ".join(repr(mode.value) for mode in AckMode)
        raise ValueError(f"ack={ack!r} is none of {names}") from None
