"""What a registration comes to: the class of its thread, and when messages are acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neon_mq_connector.aio.signatures import (
    form_of,
    is_coroutine_function,
    name_of,
)
from neon_mq_connector.consumers import (
    BaseConsumerThread,
    ConsumerThread,
    SelectConsumerThread,
)
from neon_mq_connector.consumers.registration import AckMode


def choose_engine(
    callback: Callable[..., Any],
    on_error: Callable[..., Any] | None,
    queue: str,
    *,
    async_consumer: bool | None,
    default: type[BaseConsumerThread],
) -> type[BaseConsumerThread]:
    """Choose the class of a consumer's thread by its callback.

    Returns:
        `AsyncConsumer` for a coroutine function, else what ``async_consumer`` says, or the default.

    Raises:
        TypeError: the callback cannot be called, or not with four arguments, or yields, or is a
            coroutine function and ``async_consumer`` is False, or only ``on_error`` is a coroutine
            function.
    """
    if not callable(callback):
        raise TypeError(f"queue {queue!r}: callback {callback!r} cannot be called")
    form_of(callback, queue)
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
