"""`AsyncMQConnector`: what a service or an application subclasses that is asyncio itself."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pika.exchange_type import ExchangeType

from neon_mq_connector import tracing
from neon_mq_connector.aio.futures import DONE
from neon_mq_connector.aio.lifecycle import Lifecycle
from neon_mq_connector.aio.requests import AsyncReplyStream
from neon_mq_connector.aio.signatures import as_coroutine_function, is_coroutine_function, name_of
from neon_mq_connector.api.base import BaseConnector
from neon_mq_connector.api.requests import (
    AnswerT,
    PartT,
    RequestOptions,
    RequestT,
    request_spec,
    stream_spec,
)
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connector import accepted
from neon_mq_connector.handlers.declared import Handler, StreamHandler
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.service.core import Core
from neon_mq_connector.service.sending import DEFAULT_EXPIRATION
from neon_mq_connector.threads.signals import StopSignals

if TYPE_CHECKING:
    from typing_extensions import Unpack

LOG = logging.getLogger("neon_mq_connector.connector")

Self = TypeVar("Self", bound="AsyncMQConnector")


class AsyncMQConnector(BaseConnector):
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

    def _mq_new_core(self) -> Core:
        self._mq_lifecycle = Lifecycle(self)
        return self._mq_lifecycle.core

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
            sender = self._mq_lifecycle.sender(vhost)
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

    # -- requests ------------------------------------------------------------------------------

    @overload
    async def request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        **options: Unpack[RequestOptions],
    ) -> dict[str, Any]: ...
    @overload
    async def request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        **options: Unpack[RequestOptions],
    ) -> AnswerT: ...
    async def request(
        self,
        request_data: Any,
        queue: str | Handler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> Any:
        """Ask another service and wait for its answer; any number of requests may be in flight.

        Arguments and errors are those of `MQConnector.request`; ``on_part`` is awaited if it is a
        coroutine function. `StoppedError` when the connector is stopped. When the wait is cancelled
        the answer is dropped; the other service may do what it was asked all the same.
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format)
        return await self._mq_lifecycle.requests(vhost).request(spec, on_part=on_part)

    async def gather(
        self,
        request_data: Mapping[str, Any],
        queue: str = "",
        *,
        exchange: str = "",
        count: int | None = None,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
    ) -> list[dict[str, Any]]:
        """Ask several services with one request, and collect their answers.

        Arguments, result and errors are those of `MQConnector.gather_answers`.
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format, exchange)
        return await self._mq_lifecycle.requests(vhost).gather(spec, count=count)

    @overload
    def stream(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        prefetch_count: int = 32,
        **options: Unpack[RequestOptions],
    ) -> AsyncReplyStream[dict[str, Any]]: ...
    @overload
    def stream(
        self,
        request_data: RequestT,
        queue: StreamHandler[RequestT, PartT, ..., Any],
        *,
        prefetch_count: int = 32,
        **options: Unpack[RequestOptions],
    ) -> AsyncReplyStream[PartT]: ...
    def stream(
        self,
        request_data: Any,
        queue: str | StreamHandler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> Any:
        """Ask another service for an answer in parts; see `MQConnector.stream_answer`.

        Of a handler the parts are what it yields.

        The request is sent when the first part is awaited, or an ``async with`` around the parts
        begins, which is needed where they may not be read to the end.
        """
        spec = stream_spec(self.settings, request_data, queue, timeout, wire_format)
        return self._mq_lifecycle.requests(vhost).stream(spec, prefetch_count=prefetch_count)

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
            on_error = as_coroutine_function(on_error, f"consumer {name!r}: on_error")
        super()._mq_register(name, vhost, callback, on_error, **options)

    async def run_consumers(self, names: Iterable[str] | None = None) -> None:
        """Start consumers; see `MQConnector.run_consumers`."""
        run = self._mq_core.consumers.run
        await self._mq_lifecycle.call("starting consumers", run, names, daemon=True)

    async def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them; see `MQConnector.stop_consumers`."""
        stop = self._mq_core.consumers.stop
        await self._mq_lifecycle.call("stopping consumers", stop, names)

    async def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew; see `MQConnector.restart_consumer`."""
        restart = self._mq_core.consumers.restart
        await self._mq_lifecycle.call(f"restarting consumer {name!r}", restart, name)

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
        lifecycle = self._mq_lifecycle
        self._mq_serve_configured()
        async with lifecycle.starting(timeout) as stop:
            await (self.pre_run(**kwargs) or DONE)
            register_handlers(self)
            await lifecycle.start(names if run_consumers else None, stop)
            if run_sync:
                lifecycle.repeat("sync", lambda: self.sync_period, self.sync)
            if run_observer is None or run_observer:
                lifecycle.repeat("observe", lambda: self.observe_period, self._observe)
            await (self.post_run(**kwargs) or DONE)

    async def _observe(self) -> None:
        consumers = self._mq_core.consumers
        observe, restart = consumers.observe, consumers.restart
        await self._mq_lifecycle.call("looking after consumers", observe, restart)

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
        loop, signalled = asyncio.get_running_loop(), asyncio.Semaphore(0)

        async def work() -> None:
            await self.run(**kwargs)
            await self._mq_lifecycle.wait_for_end()

        # not `add_signal_handler`: a loop does not tell which handler it had before
        with StopSignals(partial(loop.call_soon_threadsafe, signalled.release)) as signals:
            try:
                await _run_until(signalled, work())
                if signals.received:
                    LOG.info("service %r: %s, stopping", self.service_name, signals.received)
            finally:
                hurrying = asyncio.create_task(self._mq_lifecycle.hurry_after(signalled))
                try:
                    await self.stop()
                finally:
                    hurrying.cancel()
                    await asyncio.wait((hurrying,))


async def _run_until(signalled: asyncio.Semaphore, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, and cancel it if there is a signal before it ends."""
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(signalled.acquire())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.wait((doing, waiting))
    if not doing.cancelled():
        doing.result()
