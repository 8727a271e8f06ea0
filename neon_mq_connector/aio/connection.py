"""The stand-in for a connection that coroutines get, and what the channels of a consumer share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pika.exceptions as pika_errors

from neon_mq_connector.aio.operation import DONE, Done

if TYPE_CHECKING:
    from neon_mq_connector.aio.channel import FurtherAwaitableChannel
    from neon_mq_connector.aio.loops import CoroutineLoop
    from neon_mq_connector.aio.outbox import Outbox
    from neon_mq_connector.consumers.session import Session


@dataclass(frozen=True)
class ChannelHost:
    """What the channels of one consumer share.

    Attributes:
        loop: where the coroutines run.
        outbox: does what may have to wait.
        callback_name: what to call the callback in messages.
        report: tells of an error, without waiting; on any thread.
    """

    loop: CoroutineLoop
    outbox: Outbox
    callback_name: str
    report: Callable[[BaseException], object]


class AwaitableConnection:
    """Stand in for the connection of one consumer, in callbacks that are coroutines.

    Args:
        session: the generation of the consuming channel.
        host: what its channels share.
        new_channel: makes another channel.
    """

    def __init__(
        self,
        session: Session,
        host: ChannelHost,
        new_channel: Callable[[], FurtherAwaitableChannel],
    ) -> None:
        self._session = session
        self._host = host
        self._new_channel = new_channel

    @property
    def is_open(self) -> bool:
        """Whether the consumer is attached."""
        return self._session.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the consumer is detached."""
        return not self._session.is_open

    def channel(
        self,
        channel_number: int | None = None,
        on_open_callback: Callable[[Any], object] | None = None,
    ) -> FurtherAwaitableChannel:
        """Make another channel, for publishing and declaring; its `close` closes it alone.

        Args:
            channel_number: without effect.
            on_open_callback: called with the channel.

        Raises:
            pika.exceptions.ConnectionWrongStateError: the consumer is detached.
        """
        if not self._session.is_open:
            raise pika_errors.ConnectionWrongStateError(
                f"the connection of the consumer of queue {self._session.queue!r} is closed"
            )
        channel = self._new_channel()
        if on_open_callback is not None:
            on_open_callback(channel)
        return channel

    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> Done:
        """Stop this consumer; other consumers are not disturbed."""
        self._session.stop_consumer()
        return DONE

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Have the loop call something; on any thread."""
        self._host.loop.call(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> DelayedCall:
        """Have the loop call something after a delay in seconds; on any thread."""
        call = DelayedCall(callback)
        loop = self._host.loop
        loop.call(lambda: loop.loop.call_later(delay, call))
        return call

    def remove_timeout(self, timeout_id: DelayedCall) -> None:
        """Forget a `call_later`."""
        timeout_id.cancel()

    def add_on_close_callback(self, callback: Callable[[Any, BaseException], object]) -> None:
        """Have the loop call something once, when the consumer is detached.

        Args:
            callback: called with this connection and the reason, an `MQError` as a rule.
        """
        call = self._host.loop.call
        self._session.connection.add_on_close_callback(
            lambda _connection, reason: call(callback, self, reason)
        )


class DelayedCall:
    """A call that is to be made later, unless it is cancelled; by any thread.

    Args:
        callback: what to call.
    """

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def __call__(self) -> None:
        """Make the call; an exception is the loop's to tell of."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        """Do not make it."""
        self._callback = None
