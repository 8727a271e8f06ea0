"""`AsyncMQConnector`: what a service or an application subclasses that is asyncio itself."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pika.exchange_type import ExchangeType

from neon_mq_connector import tracing
from neon_mq_connector.aio.asking import AskingConnector
from neon_mq_connector.aio.lifecycle import GRACE, START_TIMEOUT
from neon_mq_connector.aio.operation import DONE
from neon_mq_connector.aio.signals import LoopSignals, unless
from neon_mq_connector.aio.threaded import ReadOnly, Settable, ThreadedConnector, takes_arguments_of
from neon_mq_connector.connector import MQConnector, accepted
from neon_mq_connector.handlers.context import Middleware
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.health.serving import ServesHealth
from neon_mq_connector.service.health import Health
from neon_mq_connector.service.messaging import DEFAULT_EXPIRATION

if TYPE_CHECKING:
    import pika

    from neon_mq_connector.config.settings import MQSettings

LOG = logging.getLogger("neon_mq_connector.connector")

Self = TypeVar("Self", bound="AsyncMQConnector")


class AsyncMQConnector(AskingConnector, ServesHealth):
    """Consume queues, send messages and ask services from coroutines; a service derives from it.

    Its callbacks are coroutine functions and run on the loop that runs the connector; no code of
    the service runs elsewhere. What talks to the broker has threads of its own: a coroutine that
    holds up the loop costs no connection. A connector belongs to the loop that uses it first, until
    it is stopped; its methods are for the coroutines of that loop.

    Args:
        config: as for `MQConnector`.
        service_name: the service's entry under ``users``.

    Raises:
        ConfigurationError: a configuration was found and cannot be read.

    Examples:
        >>> class Greeter(AsyncMQConnector):
        ...     async def greet(self, channel, method, properties, body):
        ...         request = b64_to_dict(body)
        ...         await self.send_message(
        ...             {"text": "hello", "message_id": request["message_id"]},
        ...             queue=request["routing_key"],
        ...         )
        >>> greeter = Greeter(config, "greeter")
        >>> greeter.register_consumer("greet", greeter.vhost, "greet_input", greeter.greet)
        >>> async with greeter:
        ...     answer = await greeter.request({"name": "you"}, "other_service_input")
    """

    #: The key, in the service's entry under ``users``, of its configurable properties.
    property_key: str = "properties"
    #: What is called with the `Context` of each message of a handler; makes a context manager.
    middleware: Sequence[Middleware] = ()

    # -- as in `MQConnector`, under the same names ---------------------------------------------

    config: Settable[Any] = Settable()
    consumers: ReadOnly[dict[str, Any]] = ReadOnly()
    mq_credentials: ReadOnly[pika.PlainCredentials] = ReadOnly()
    observe_period: Settable[float] = Settable()
    service_config: ReadOnly[dict[str, Any]] = ReadOnly()
    service_id: ReadOnly[str] = ReadOnly()
    service_name: ReadOnly[str] = ReadOnly()
    settings: ReadOnly[MQSettings] = ReadOnly()
    started: ReadOnly[bool] = ReadOnly()
    sync_period: Settable[float] = Settable()
    testing_mode: ReadOnly[bool] = ReadOnly()
    testing_prefix: ReadOnly[str] = ReadOnly()
    vhost_prefix: Settable[str] = Settable()
    create_unique_id = staticmethod(MQConnector.create_unique_id)

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(ThreadedConnector(config, service_name, self.property_key))
        configured = self.service_config.get(self.property_key)
        values = configured if isinstance(configured, Mapping) else {}
        for name, default in self.service_configurable_properties.items():
            setattr(self, name, values.get(name, default))

    def __repr__(self) -> str:
        """Show class, service and virtual host; never the configuration."""
        return f"<{type(self).__name__} {self.service_name!r} on {self.vhost!r}>"

    @property
    def service_configurable_properties(self) -> dict[str, Any]:
        """Attributes that the configuration may set, with their defaults; services override it."""
        return {}

    def check_health(self) -> bool:
        """Return whether it runs and each consumer consumes; see `MQConnector.check_health`."""
        return self._threaded.check_health()

    def health(self, *, stacks: bool = False) -> Health:
        """Return how connector, consumers and connections are; see `MQConnector.health`."""
        return self._threaded.health(stacks=stacks)

    # -- sending -------------------------------------------------------------------------------

    async def send_message(
        self,
        request_data: Mapping[str, Any],
        vhost: str = "",
        *,
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = DEFAULT_EXPIRATION,
    ) -> str:
        """Send a message, and wait until the broker has it in a queue.

        Arguments, result and errors are those of `MQConnector.send_message`; `StoppedError` when
        the connector was stopped. Any number may be sent at a time (`asyncio.gather`). When the
        wait is cancelled the message may have been sent, or be sent still.
        """
        vhost, threaded = vhost or self.vhost, self._threaded
        destination, encode = threaded.sending(exchange, queue, exchange_type, expiration)
        with tracing.publishing(destination.exchange, destination.queue):
            message = encode(request_data)
            if vhost not in self._prepared:
                await self._prepare(vhost)
            sender = self._lifecycle.binding().sender(threaded.connections_to(vhost))
            timeout = threaded.settings.publish_timeout
            return await sender.send_and_wait(destination, message, timeout=timeout)

    async def publish_message(
        self,
        request_data: Mapping[str, Any],
        exchange: str,
        *,
        vhost: str = "",
        expiration: int | None = DEFAULT_EXPIRATION,
    ) -> str:
        """Publish to a fanout exchange, which is declared if it is missing; as `send_message`."""
        return await self.send_message(
            request_data,
            vhost,
            exchange=exchange,
            exchange_type=ExchangeType.fanout,
            expiration=expiration,
        )

    async def sync(
        self,
        vhost: str | None = None,
        exchange: str | None = None,
        queue: str | None = None,
        request_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the service's presence; as `MQConnector.sync`, but a ``queue`` is bound."""
        await self.send_message(
            request_data or {"service_id": self.service_id, "time": int(time.time())},
            vhost or "",
            exchange=exchange or f"{self.service_name}_sync",
            queue=queue or "",
            exchange_type=ExchangeType.fanout,
        )

    # -- consuming -----------------------------------------------------------------------------

    @takes_arguments_of(MQConnector.register_consumer)
    def register_consumer(self, *args: Any, **kwargs: Any) -> None:
        """Register a consumer of a queue; nothing is opened before `run` or `run_consumers`.

        The arguments are those of `MQConnector.register_consumer`, but ``callback`` is a coroutine
        function, that takes ``(channel, method, properties, body)`` or one aio-pika message, and
        ``on_error`` a function or a coroutine function, called on the loop. As many callbacks run
        at a time as ``concurrency`` says, by default as many as the broker sends ahead.

        Raises:
            TypeError: the callback is no coroutine function: an ordinary function would hold up the
                loop, or run on another thread. Or ``on_error`` yields.
            ValueError: a consumer of that name is running; stop it first.
        """
        self._threaded.register(MQConnector.register_consumer, args, kwargs)

    @takes_arguments_of(MQConnector.register_subscriber)
    def register_subscriber(self, *args: Any, **kwargs: Any) -> None:
        """Register a subscriber: what is published to a fanout exchange reaches each of them.

        The arguments are those of `MQConnector.register_subscriber`, with ``callback`` and
        ``on_error`` as for `register_consumer`; raises as that.
        """
        self._threaded.register(MQConnector.register_subscriber, args, kwargs)

    async def run_consumers(self, names: Iterable[str] | None = None) -> None:
        """Start consumers; see `MQConnector.run_consumers`."""
        start = partial(self._threaded.run_consumers, tuple(names or ()))
        await self._lifecycle.call(start, START_TIMEOUT, "starting consumers")

    async def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them; see `MQConnector.stop_consumers`."""
        stop = partial(self._threaded.stop_consumers, tuple(names or ()))
        await self._lifecycle.call(stop, self._threaded.stop_budget + GRACE, "stopping consumers")

    async def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew; see `MQConnector.restart_consumer`."""
        restart, budget = partial(self._threaded.restart_consumer, name), self._threaded.stop_budget
        await self._lifecycle.call(restart, budget + START_TIMEOUT, f"restarting consumer {name!r}")

    # -- running and stopping ------------------------------------------------------------------

    async def run(
        self,
        run_consumers: bool = True,
        run_sync: bool = True,
        run_observer: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Wait for the broker, start what was registered, and return; see `MQConnector.run`.

        When it fails or is cancelled, what was started is stopped.

        Raises:
            BrokerUnreachableError: the broker does not answer in time.
            AuthenticationError: it refuses the credentials.
            RuntimeError: the connector runs already.
        """
        timeout = float(kwargs.get("mq_timeout", 120))
        names = tuple(kwargs.setdefault("consumer_names", ()) or ())

        async def start() -> None:
            await (self.pre_run(**kwargs) or DONE)
            register_handlers(self)
            begin = partial(self._threaded.begin, names if run_consumers else None)
            await self._lifecycle.call(begin, START_TIMEOUT, "starting consumers")
            if run_sync:
                self._lifecycle.repeat("sync", lambda: self.sync_period, self.sync)
            if run_observer is None or run_observer:
                self._lifecycle.repeat("observe", lambda: self.observe_period, self._observe)
            await (self.post_run(**kwargs) or DONE)

        self._serve_configured_health()
        await self._lifecycle.run(timeout, start)

    async def _observe(self) -> None:
        observe, budget = self._threaded.observe_consumers, self._threaded.stop_budget
        await self._lifecycle.call(observe, budget + START_TIMEOUT, "looking after consumers")

    def pre_run(self, **kwargs: Any) -> Awaitable[None] | None:
        """Do what comes before the consumers start; may be a coroutine function in a subclass."""

    def post_run(self, **kwargs: Any) -> Awaitable[None] | None:
        """Do what is to be done once the consumers run; may be a coroutine function."""

    async def stop(self) -> None:
        """Stop everything within the setting ``stop_timeout`` (10 s); `run` works again afterwards.

        Callbacks that run may finish; towards the end of the time they are cancelled. Messages that
        were not started go back to their queues, what was sent is confirmed, subscribers' queues
        are deleted, connections are closed; what still awaits an answer gets a `StoppedError`.

        A second time does no harm. When the wait is cancelled the stop goes on, and so does the
        wait, unless it is cancelled once more. In a callback of this connector, and in a task that
        one has started, it returns at once; the rest happens when the callback has returned. A
        connector whose loop was closed without a stop is stopped on whatever loop awaits this.
        """
        await self._lifecycle.stop()
        self._end_configured_health()

    async def __aenter__(self: Self) -> Self:
        """Run the connector; raises as `run`."""
        await self.run()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def run_forever(self, **kwargs: Any) -> None:
        """Run, as `run` does, until SIGTERM or SIGINT, stop, and return.

        It waits for the broker without end, unless ``mq_timeout`` is given. It returns as well when
        something else has stopped it. A second signal cancels callbacks that are still running.

        Raises:
            RuntimeError: the loop does not run in the main thread.
            MQError: as `run`; also where the broker refuses a consumer.
        """
        kwargs = {**accepted(self.run, mq_timeout=math.inf), **kwargs}
        with LoopSignals() as signals:
            try:
                # a signal may come while it starts
                if await unless(signals.first, self.run(**kwargs)):
                    await unless(signals.first, self._lifecycle.wait_for_end())
                if signals.received:
                    LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            finally:
                hurrying = asyncio.create_task(self._lifecycle.hurry_after(signals.second))
                try:
                    await self.stop()
                finally:
                    hurrying.cancel()
                    await asyncio.wait((hurrying,))
