"""A request whose answer comes into a future."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from neon_mq_connector.client.late import PATIENCE, look_up
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, RequestSpec
from neon_mq_connector.errors import MQError
from neon_mq_connector.publishing.message import Flush
from neon_mq_connector.threads.futures import CancellableFuture
from neon_mq_connector.topology import QueueStatus

T = TypeVar("T")


class FutureReceiver:
    """A request whose answer comes into a future; it is read on the thread of futures.

    Attributes:
        future: the answer, of one in parts the first.
        deadline: until when it is waited for, on the monotonic clock, in seconds.
    """

    __slots__ = ("_channel", "_is_late", "_request", "_thread", "deadline", "future")

    def __init__(self, channel: ReplyChannel, spec: RequestSpec) -> None:
        self.deadline = spec.deadline
        self.future: CancellableFuture[dict[str, Any]] = CancellableFuture(self._forget)
        self._is_late = False
        self._channel = channel
        self._thread = channel.shared.futures
        self._request = channel.request(spec, self._receive)

    def start(self) -> None:
        """Send the request together with others; raises as `ReplyChannel.start`."""
        try:
            self._thread.expect(self)
            self._channel.start(self._request, Flush.SOON)
        except BaseException:
            self._forget()
            raise

    def _receive(self, event: ReplyEvent) -> None:
        self._thread.call(partial(self._handle, event))

    # -- the thread of futures -----------------------------------------------------------------

    def expire(self) -> None:
        """Ask the broker why no answer came in time; after `PATIENCE` fail without a reason."""
        if self._is_late:
            self._end_late(None)
            return
        self._is_late = True
        self.deadline = time.monotonic() + PATIENCE
        self._thread.expect(self)
        look_up(self._channel.shared.connections, self._request.spec, self._explain)

    def _explain(self, status: QueueStatus | None) -> None:
        self._thread.call(partial(self._end_late, status))

    def _end_late(self, status: QueueStatus | None) -> None:
        if not self.future.done():
            late = self._channel.expire(self._request, status)
            self._end(self.future.set_exception, late)

    def _handle(self, event: ReplyEvent) -> None:
        if self.future.done():
            self._forget()
            self._channel.shared.drop(self._request.message.message_id)
            return
        try:
            answer = self._channel.read(self._request, event)
        except MQError as error:
            self._end(self.future.set_exception, error)
            return
        if answer is not None:
            self._end(self.future.set_result, answer)

    def _end(self, settle: Callable[[T], object], value: T) -> None:
        self._forget()
        self.future.release()
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            settle(value)

    def _forget(self) -> None:
        self._thread.forget(self)
        self._channel.remove(self._request)
