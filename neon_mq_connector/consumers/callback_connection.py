"""The stand-in for a pika connection that callbacks and a consumer thread's ``connection`` give.

It serves both styles of pika's: that of `BlockingConnection`, whose methods return what they have
done, and that of `SelectConnection`, whose methods are given what to call then. What is given is
called before the method returns, in the calling thread; so a callback that fails in it has failed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika.exceptions as pika_errors

from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.threads.guard import Guard

if TYPE_CHECKING:
    from neon_mq_connector.consumers.session import Session

#: Called with what was closed, a connection or a channel, and the reason.
CloseCallback = Callable[[Any, BaseException], object]


class CallbackConnection:
    """Stand in for the connection of one consumer; the real ones are shared and stay out of reach.

    `_calls` and `_on_close` are deques, which any thread may append to; the consumer's thread takes
    from them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls: deque[Callable[[], object]] = deque()
        self._called = threading.Event()
        self._on_close: deque[CloseCallback] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the consumer is attached."""
        return self._session.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the consumer is detached."""
        return not self._session.is_open

    @property
    def has_close_callbacks(self) -> bool:
        """Whether somebody wants to be called when the consumer is detached."""
        return bool(self._on_close)

    @property
    def ioloop(self) -> CallbackConnection:
        """What has the methods for calls of a `SelectConnection`'s loop: this object."""
        return self

    def channel(
        self,
        channel_number: int | None = None,
        on_open_callback: Callable[[Any], object] | None = None,
    ) -> CallbackChannel:
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
        channel = FurtherChannel(self._session)
        if on_open_callback is not None:
            on_open_callback(channel)
        return channel

    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> None:
        """Stop this consumer; other consumers are not disturbed."""
        self._session.stop_consumer()

    # -- calls for the consumer's thread -------------------------------------------------------

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Have the consumer's thread call something between two messages."""
        self._calls.append(callback)
        self._called.set()
        self._session.wake()

    add_callback = add_callback_threadsafe

    def call_later(self, delay: float, callback: Callable[[], object]) -> threading.Timer:
        """Have the consumer's thread call something after a delay in seconds."""
        timer = threading.Timer(delay, self.add_callback_threadsafe, (callback,))
        timer.daemon = True
        timer.start()
        return timer

    def remove_timeout(self, timeout_id: threading.Timer) -> None:
        """Forget a `call_later`."""
        timeout_id.cancel()

    def process_data_events(self, time_limit: float | None = 0) -> None:
        """Call what `add_callback_threadsafe` was given; heartbeats need no help.

        Args:
            time_limit: how long to wait for something to call, in seconds; None for until there is
                something, a minute at most.
        """
        deadline = time.monotonic() + (60.0 if time_limit is None else max(0.0, time_limit))
        while not self.run_calls():
            left = deadline - time.monotonic()
            if left <= 0 or not self._called.wait(left):
                return

    def sleep(self, duration: float) -> None:
        """Wait while calling what `add_callback_threadsafe` is given.

        Args:
            duration: seconds.
        """
        deadline = time.monotonic() + duration
        while (left := deadline - time.monotonic()) > 0:
            self._called.wait(left)
            self.run_calls()

    def run_calls(self) -> bool:
        """Call what waits to be called.

        Returns:
            Whether there was anything.
        """
        self._called.clear()
        any_called = False
        while True:
            try:
                callback = self._calls.popleft()
            except IndexError:
                return any_called
            any_called = True
            callback()

    # -- the end -------------------------------------------------------------------------------

    def add_on_close_callback(self, callback: CloseCallback) -> None:
        """Have the consumer's thread call something once, when this is closed: by whomever.

        Args:
            callback: called with this connection and the reason, an `MQError` as a rule.
        """
        self._on_close.append(callback)

    def closed(self, reason: BaseException) -> None:
        """Call what is to be called when this is closed; on the consumer's thread."""
        while self._on_close:
            callback = self._on_close.popleft()
            with Guard("queue %r: a call at the end of its connection", self._session.queue):
                callback(self, reason)


class FurtherChannel(CallbackChannel):
    """A channel on which nothing is consumed; `_closed` is set once, by any thread."""

    __slots__ = ("_closed",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._closed and super().is_open

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or the consumer is detached."""
        return not self.is_open

    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> None:
        """Close this channel alone."""
        self._closed = True
