"""The connection that a delivery's channel seems to have; the real ones are shared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika.exceptions as pika_errors

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.session import Session
from neon_mq_connector.errors import StoppedError


class DeliveryConnection:
    """Stand in for the connection of one consumer."""

    _done: Any  # what an operation returns that is done by the call

    def __init__(self, session: Session) -> None:
        self._session = session

    def _new_channel(self) -> Any:
        raise NotImplementedError

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call a function where callbacks are called."""
        raise NotImplementedError

    @property
    def connections(self) -> Connections:
        """The connections to the consumer's virtual host."""
        return self._session.connections

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
    ) -> Any:
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
        channel.closes_alone = True
        if on_open_callback is not None:
            on_open_callback(channel)
        return channel

    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> Any:
        """Stop this consumer; other consumers are not disturbed."""
        self._session.stop_consumer()
        return self._done

    def call_later(self, delay: float, callback: Callable[[], object]) -> threading.Timer:
        """Call a function after a delay in seconds, as `add_callback_threadsafe` does."""

        def call() -> None:
            with suppress(StoppedError):  # the asyncio loop has ended meanwhile
                self.add_callback_threadsafe(callback)

        timer = threading.Timer(delay, call)
        timer.daemon = True
        timer.start()
        return timer

    def remove_timeout(self, timeout_id: threading.Timer) -> None:
        """Cancel a `call_later`."""
        timeout_id.cancel()
