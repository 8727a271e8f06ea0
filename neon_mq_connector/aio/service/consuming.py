"""A service that consumes, on asyncio: its callbacks are coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pika.exchange_type import ExchangeType

from neon_mq_connector.aio.service.asking import AsyncAskingService
from neon_mq_connector.aio.signatures import is_coroutine_function, name_of
from neon_mq_connector.consumers.registration import AckMode, Retry

#: A coroutine function that takes pika's four arguments, or one aio-pika message.
AsyncCallback = Callable[..., Awaitable[object]]
#: Takes the consumer's thread and an exception; a function or a coroutine function.
AsyncErrorCallback = Callable[[Any, BaseException], object]

#: What a wait for a thread may take longer than what the thread does, in seconds.
GRACE = 5.0
#: How long starting consumers takes at most until it is left to them, in seconds.
START_TIMEOUT = 20.0


class AsyncConsumingService(AsyncAskingService):
    """Register, start and stop consumers, whose callbacks run on the loop."""

    def register_consumer(
        self,
        name: str,
        vhost: str,
        queue: str,
        callback: AsyncCallback,
        on_error: AsyncErrorCallback | None = None,
        auto_ack: bool = True,
        queue_reset: bool = False,
        exchange: str | None = None,
        exchange_type: str | ExchangeType | None = None,
        exchange_reset: bool = False,
        queue_exclusive: bool = False,
        skip_on_existing: bool = False,
        restart_attempts: int = -1,
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

        The arguments are those of `MQConnector.register_consumer`, but:

        Args:
            callback: a coroutine function, that takes ``(channel, method, properties, body)`` or
                one aio-pika message. As many run at a time as ``concurrency`` says, by default as
                many as the broker sends ahead.
            on_error: a function or a coroutine function, called on the loop with the consumer's
                thread and an exception. Logs by default.

        Raises:
            TypeError: the callback is no coroutine function: an ordinary function would hold up the
                loop, or run on another thread. Or ``on_error`` yields.
            ValueError: a consumer of that name is running; stop it first.
        """
        self._check_callback(name, callback, skip_on_existing)
        self._threaded.register_consumer(
            name,
            vhost,
            queue,
            callback,
            _on_the_loop(name, on_error),
            auto_ack,
            queue_reset,
            exchange,
            exchange_type,
            exchange_reset,
            queue_exclusive,
            skip_on_existing,
            restart_attempts,
            ack=ack,
            prefetch_count=prefetch_count,
            concurrency=concurrency,
            retry=retry,
            durable=durable,
            arguments=arguments,
            routing_keys=routing_keys,
            priority=priority,
            on_park_failure=on_park_failure,
            dedicated_connection=dedicated_connection,
        )

    def register_subscriber(
        self,
        name: str,
        vhost: str,
        callback: AsyncCallback,
        on_error: AsyncErrorCallback | None = None,
        exchange: str | None = None,
        exchange_reset: bool = False,
        auto_ack: bool = True,
        skip_on_existing: bool = False,
        restart_attempts: int = -1,
        *,
        ack: AckMode | str | None = None,
        prefetch_count: int | None = None,
        concurrency: int | None = None,
        retry: Retry | None = None,
        dedicated_connection: bool = False,
    ) -> None:
        """Register a subscriber: what is published to a fanout exchange reaches each of them.

        The arguments are those of `MQConnector.register_subscriber`, with ``callback`` and
        ``on_error`` as for `register_consumer`; raises as that.
        """
        self._check_callback(name, callback, skip_on_existing)
        self._threaded.register_subscriber(
            name,
            vhost,
            callback,
            _on_the_loop(name, on_error),
            exchange,
            exchange_reset,
            auto_ack,
            skip_on_existing,
            restart_attempts,
            ack=ack,
            prefetch_count=prefetch_count,
            concurrency=concurrency,
            retry=retry,
            dedicated_connection=dedicated_connection,
        )

    def _check_callback(self, name: str, callback: Any, skip_on_existing: bool) -> None:
        if not is_coroutine_function(callback):
            raise TypeError(
                f"consumer {name!r}: {name_of(callback)} is no coroutine function; write `async "
                "def`, or use an MQConnector, which runs functions on threads"
            )
        consumer = self.consumers.get(name)
        if consumer is not None and consumer.is_alive() and not skip_on_existing:
            raise ValueError(
                f"consumer {name!r} is running: await stop_consumers([{name!r}]) before another of "
                "that name is registered"
            )

    async def run_consumers(self, names: Iterable[str] | None = None) -> None:
        """Start consumers and wait, for 10 s at most, until each consumes or is known not to.

        Args:
            names: which; None or empty for all. Those that run are left alone, unknown ones are
                logged.
        """
        await self._in_thread(
            partial(self._threaded.run_consumers, tuple(names or ())),
            START_TIMEOUT,
            "starting consumers",
        )

    async def stop_consumers(self, names: Iterable[str] | None = None) -> None:
        """Stop consumers and wait for them, at most the setting ``stop_timeout``.

        Args:
            names: which; None or empty for all.
        """
        await self._in_thread(
            partial(self._threaded.stop_consumers, tuple(names or ())),
            self._threaded.stop_budget + GRACE,
            "stopping consumers",
        )

    async def restart_consumer(self, name: str) -> None:
        """Stop a consumer and start it anew.

        Args:
            name: the name it was registered under.

        Raises:
            KeyError: no consumer of that name is registered.
        """
        await self._in_thread(
            partial(self._threaded.restart_consumer, name),
            self._threaded.stop_budget + START_TIMEOUT,
            f"restarting consumer {name!r}",
        )


def _on_the_loop(name: str, on_error: AsyncErrorCallback | None) -> Any:
    """Make of a function one that is called on the loop, where coroutine functions are.

    Raises:
        TypeError: it yields, so that calling it would do nothing.
    """
    if on_error is None or is_coroutine_function(on_error):
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
