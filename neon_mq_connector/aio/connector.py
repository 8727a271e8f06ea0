"""`AsyncMQConnector`: what a service or an application subclasses that is asyncio itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from pika.exchange_type import ExchangeType

from neon_mq_connector import tracing
from neon_mq_connector.aio.asking import AsksServicesAsync
from neon_mq_connector.aio.lifecycle import Lifecycle
from neon_mq_connector.aio.operation import DONE
from neon_mq_connector.aio.signatures import is_coroutine_function, name_of
from neon_mq_connector.api.base import BaseConnector
from neon_mq_connector.connector import accepted
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.service.sending import DEFAULT_EXPIRATION
from neon_mq_connector.threads.signals import StopSignals

LOG = logging.getLogger("neon_mq_connector.connector")

Self = TypeVar("Self", bound="AsyncMQConnector")


class AsyncMQConnector(AsksServicesAsync, BaseConnector):
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

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._mq_lifecycle = Lifecycle(self)
        self._mq_compose(self._mq_lifecycle.core)

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
        outgoing = self._mq_core.sending.outgoing
        destination, encode = outgoing(exchange, queue, exchange_type, expiration)
        with tracing.publishing(destination.exchange, destination.queue):
            message = encode(request_data)
            sender = await self._mq_lifecycle.sender(vhost)
            timeout = self.settings.publish_timeout
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

    def _mq_register(
        self,
        name: str,
        vhost: str,
        callback: Callable[..., Any],
        on_error: Callable[..., Any] | None,
        **options: Any,
    ) -> None:
        if not is_coroutine_function(callback):
            raise TypeError(
                f"consumer {name!r}: {name_of(callback)} is no coroutine function; write `async "
                "def`, or use an MQConnector, which runs functions on threads"
            )
        consumer = self.consumers.get(name)
        if consumer is not None and consumer.is_alive() and not options["skip_on_existing"]:
            raise ValueError(
                f"consumer {name!r} is running: await stop_consumers([{name!r}]) before another of "
                "that name is registered"
            )
        on_error = on_error or self.default_error_handler
        if on_error is not BaseConnector.default_error_handler:
            on_error = _on_the_loop(name, on_error)
        super()._mq_register(name, vhost, callback, on_error, **options)

    async def run_consumers(self, names: Iterable[str] | None = None) -> None:
        """Start consumers; see `MQConnector.run_consumers`."""
        start = partial(self._mq_core.consumers.run, names, daemon=True)
        await self._mq_lifecycle.call(start, "starting consumers")

    async def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them; see `MQConnector.stop_consumers`."""
        stop = partial(self._mq_core.consumers.stop, names)
        await self._mq_lifecycle.call(stop, "stopping consumers")

    async def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew; see `MQConnector.restart_consumer`."""
        restart = partial(self._mq_core.consumers.restart, name)
        await self._mq_lifecycle.call(restart, f"restarting consumer {name!r}")

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
            RuntimeError: the connector runs already, or was stopped in the callback that runs it.
        """
        timeout = float(kwargs.get("mq_timeout", 120))
        names = kwargs.setdefault("consumer_names", ()) or ()

        async def start() -> None:
            await (self.pre_run(**kwargs) or DONE)
            register_handlers(self)
            await self._mq_lifecycle.start(names if run_consumers else None)
            if run_sync:
                self._mq_lifecycle.repeat("sync", lambda: self.sync_period, self.sync)
            if run_observer is None or run_observer:
                self._mq_lifecycle.repeat("observe", lambda: self.observe_period, self._observe)
            await (self.post_run(**kwargs) or DONE)

        self._mq_serve_configured()
        await self._mq_lifecycle.run(timeout, start)

    async def _observe(self) -> None:
        consumers = self._mq_core.consumers
        observe = partial(consumers.observe, consumers.restart)
        await self._mq_lifecycle.call(observe, "looking after consumers")

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
        await self._mq_lifecycle.stop()
        self._mq_core.close_endpoint()

    async def __aenter__(self: Self) -> Self:
        """Run the connector; raises as `run`."""
        await self.run()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run_forever(self, **kwargs: Any) -> None:
        """Run, as `run` does, until SIGTERM or SIGINT, stop, and return.

        It waits for the broker without end, unless ``mq_timeout`` is given. It returns as well when
        something else has stopped it. A second signal cancels callbacks that are still running.

        Raises:
            RuntimeError: the loop does not run in the main thread.
            MQError: as `run`; also where the broker refuses a consumer.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "signals can be waited for in the main thread only; in another one use `async "
                "with` and wait for something else"
            )
        kwargs = {**accepted(self.run, mq_timeout=math.inf), **kwargs}
        loop, first, second = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def received() -> None:
            (second if first.is_set() else first).set()

        # not `add_signal_handler`: a loop does not tell which handler it had before
        with StopSignals(partial(loop.call_soon_threadsafe, received)) as signals:
            try:
                # a signal may come while it starts
                if await _unless(first, self.run(**kwargs)):
                    await _unless(first, self._mq_lifecycle.wait_for_end())
                if signals.received:
                    LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            finally:
                hurrying = asyncio.create_task(self._mq_lifecycle.hurry_after(second))
                try:
                    await self.stop()
                finally:
                    hurrying.cancel()
                    await asyncio.wait((hurrying,))


def _on_the_loop(name: str, on_error: Callable[..., object]) -> Any:
    """Make a coroutine function of an error handler, which is called on the loop then."""
    if is_coroutine_function(on_error):
        return on_error
    if inspect.isgeneratorfunction(on_error) or inspect.isasyncgenfunction(on_error):
        raise TypeError(
            f"consumer {name!r}: on_error {name_of(on_error)} yields, so calling it does nothing; "
            "it is a function or a coroutine function"
        )

    @functools.wraps(on_error)
    async def on_error_on_the_loop(thread: Any, error: BaseException) -> None:
        result = on_error(thread, error)
        if inspect.isawaitable(result):
            await result

    return on_error_on_the_loop


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Run a coroutine, and cancel it if an event is set before it ends.

    Returns:
        Whether it has ended by itself.
    """
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.wait((doing, waiting))
    if doing.cancelled():
        return False
    doing.result()
    return True
