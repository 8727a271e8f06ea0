"""Which consumer thread serves a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neon_mq_connector.aio.signatures import is_coroutine_function, name_of, refuse_generator
from neon_mq_connector.consumers import BaseConsumerThread, ConsumerThread, SelectConsumerThread


def choose_engine(
    callback: Callable[..., Any],
    on_error: Callable[..., Any] | None,
    queue: str,
    *,
    async_consumer: bool | None,
    default: type[BaseConsumerThread],
) -> type[BaseConsumerThread]:
    """Choose the class of a consumer's thread, once, by what its callback is.

    Args:
        callback: what handles messages.
        on_error: what is told of errors.
        queue: the name of the queue, for errors.
        async_consumer: what the registration says.
        default: the class for functions where the registration does not say.

    Returns:
        `AsyncConsumer` for a coroutine function, else what the registration says, or the default.

    Raises:
        TypeError: the callback cannot be called, or yields, or is a coroutine function and
            ``async_consumer`` is False, or only ``on_error`` is a coroutine function.
    """
    if not callable(callback):
        raise TypeError(f"queue {queue!r}: callback {callback!r} cannot be called")
    refuse_generator(callback, queue)
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


def choose_concurrency(
    concurrency: int | None, callback: Callable[..., Any], prefetch_count: int
) -> int:
    """Say how many callbacks may run side by side.

    Args:
        concurrency: what the registration says.
        callback: what handles messages.
        prefetch_count: how many messages the broker sends ahead.

    Returns:
        By default the prefetch count for a coroutine function, and 1 for any other.
    """
    if concurrency is not None:
        return concurrency
    return prefetch_count if is_coroutine_function(callback) else 1
