"""The methods of both connectors that register consumers, and show and serve their state."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pika.exchange_type import ExchangeType

from neon_mq_connector.config.values import env_flag
from neon_mq_connector.consumers import (
    BaseConsumerThread,
    ConsumerThread,
    Retry,
    SelectConsumerThread,
)
from neon_mq_connector.consumers.consumer_thread import own_queue, type_name
from neon_mq_connector.consumers.registration import (
    AckMode,
    ErrorCallback,
    MessageCallback,
    MessageCoroutine,
    bounded_name,
    dead_queue_name,
)
from neon_mq_connector.envelope import new_id
from neon_mq_connector.errors import ConfigurationError
from neon_mq_connector.handlers.context import Middleware
from neon_mq_connector.health.status import status_of
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.consuming import choose_ack_mode
from neon_mq_connector.service.core import Core
from neon_mq_connector.service.health import Health
from neon_mq_connector.topology import Exchange, Queue

if TYPE_CHECKING:
    from neon_mq_connector.health.server import HealthServer

LOG = logging.getLogger("neon_mq_connector.health")


class BaseConnector(ConfiguredService):
    """Register consumers, and tell how they are.

    Attributes:
        consumers: the thread of each consumer, by its name.
        consumer_properties: what each was registered with.
    """

    #: Whether functions are served by a `SelectConsumerThread` where a registration does not say,
    #: and the environment variable ``MQ_ASYNC_CONSUMERS`` is not set.
    async_consumers_enabled: bool = False
    #: What is called with the `Context` of each message of a handler; makes a context manager.
    middleware: Sequence[Middleware] = ()

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        core = self._mq_core = self._mq_new_core()
        self.consumers: dict[str, Any] = core.consumers.threads
        self.consumer_properties = core.consumers.properties
        self._mq_apply_properties()

    def _mq_new_core(self) -> Core:
        return Core(self)

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
                the broker name one, which is then this consumer's alone.
            callback: called with ``(channel, method, properties, body)`` for each message. It may
                be a coroutine function (`async def`), which takes these four, or one aio-pika
                message. In an `AsyncMQConnector` it has to be one.
            on_error: called with the consumer's thread and an exception: once per outage, and for
                each callback that raised. Logs by default. It may be a coroutine function where the
                callback is one. In an `AsyncMQConnector` it is called on the loop.
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
            ValueError: a name is too long for AMQP, or a number out of its bounds. Or a consumer of
                that name is running in an `AsyncMQConnector`; stop it first.
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
        self._mq_register(
            name,
            vhost,
            callback,
            on_error,
            ack=choose_ack_mode(ack, auto_ack),
            prefetch_count=prefetch_count,
            concurrency=concurrency,
            retry=retry,
            async_consumer=async_consumer,
            skip_on_existing=skip_on_existing,
            dedicated_connection=dedicated_connection,
            queue=described,
            exchange=Exchange(exchange, type_name(exchange_type)) if exchange else None,
            routing_keys=tuple(routing_keys),
            queue_reset=queue_reset,
            exchange_reset=exchange_reset,
            consumer_arguments={} if priority is None else {"x-priority": priority},
            delete_on_stop=ours_alone,
            dead_queue=dead_queue_name(queue) if queue and not queue_exclusive else None,
            restart_attempts=restart_attempts,
            reject_when_unparkable=on_park_failure == "reject"
            or "x-dead-letter-exchange" in described.arguments,
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
            name: the name under which it is kept. This argument, and those that are not named
                here, are as for `register_consumer`.
            exchange: the exchange to subscribe to.
            retry: what becomes of a message whose callback raises; it is parked in
                ``<service>.<exchange>.dead``.

        Raises:
            Exception: as `register_consumer`.
        """
        source = exchange or ""
        subscription = f"{self.service_name}.{source or name}"
        self._mq_register(
            name,
            vhost,
            callback,
            on_error,
            ack=choose_ack_mode(ack, auto_ack),
            prefetch_count=prefetch_count,
            concurrency=concurrency,
            retry=retry,
            async_consumer=async_consumer,
            skip_on_existing=skip_on_existing,
            dedicated_connection=dedicated_connection,
            queue=own_queue(
                bounded_name(subscription, f".{new_id()[:12]}"),
                self.settings.subscriber_queue_expires,
            ),
            exchange=Exchange(source, "fanout") if source else None,
            exchange_reset=exchange_reset,
            delete_on_stop=True,
            dead_queue=dead_queue_name(subscription),
            restart_attempts=restart_attempts,
        )

    def _mq_register(
        self,
        name: str,
        vhost: str,
        callback: MessageCallback | MessageCoroutine,
        on_error: ErrorCallback | None,
        **options: Any,
    ) -> None:
        self._mq_core.consumers.register(
            name,
            vhost,
            callback,
            on_error or self.default_error_handler,
            default_class=self.consumer_thread_cls,
            **options,
        )

    # -- state ---------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether it was run and not stopped."""
        return self._mq_core.started

    def check_health(self) -> bool:
        """Return whether the connector runs and each started consumer consumes.

        Returns:
            False before `run`, while one of them is recovering, has failed or gets nothing, and
            after `stop`. `health` says more.
        """
        return self.health().healthy

    def health(self, *, stacks: bool = False) -> Health:
        """Return how the connector, its consumers and its connections are.

        Args:
            stacks: whether to add the stack of each consumer's oldest callback.

        Returns:
            A snapshot: whether all is well, what is not and why, and counts per consumer.
        """
        return self._mq_core.health(stacks=stacks)

    def serve_health(self, host: str = "127.0.0.1", port: int = 0) -> HealthServer:
        """Serve the state of the service over HTTP until the server is closed.

        ``/live`` and ``/ready`` are for probes, ``/metrics`` is for Prometheus, ``/inflight`` tells
        which callbacks run and where they are, and ``/`` is a page that shows all of it. The
        setting ``health_port`` has `run` do the same until `stop`.

        Args:
            host: the address to listen on.
            port: the port; 0 for a free one.

        Returns:
            The server, with ``port``, ``url`` and ``close()``.

        Raises:
            OSError: the address cannot be listened on.
        """
        from neon_mq_connector import metrics
        from neon_mq_connector.health.server import HealthServer

        metrics.enable()
        return HealthServer(lambda: (status_of(self),), host, port)

    def _mq_serve_configured(self) -> None:
        """Serve at the address of the settings, if they have one.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        host, port = self.settings.health_host, self.settings.health_port
        if port is None or self._mq_core.endpoint is not None:
            return
        try:
            server = self._mq_core.endpoint = self.serve_health(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"health_port: {host}:{port} cannot be listened on: {error.strerror or error}"
            ) from error
        LOG.info("service %r: its state is at %s", self.service_name, server.url)
