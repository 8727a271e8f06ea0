"""A request whose answers a coroutine awaits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, RequestSpec
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, StoppedError, WaitTimeoutError

LOG = logging.getLogger("neon_mq_connector.client")


class AwaitedRequest:
    """A request whose answers a coroutine awaits; owned by the loop, but for `_receive`.

    Args:
        loop: where it is awaited.
        channel: what it is sent on.
        spec: what is asked.
        reply_queue: the queue for answers that are not direct; the channel's by default.

    Attributes:
        channel: the same.
        request: what is sent.
    """

    __slots__ = ("_events", "_late", "_loop", "_over", "_timer", "_waiter", "channel", "request")

    def __init__(
        self, loop: CoroutineLoop, channel: ReplyChannel, spec: RequestSpec, reply_queue: str = ""
    ) -> None:
        self.channel = channel
        self.request = channel.request(spec, self._receive, reply_queue)
        self._loop = loop
        self._events: deque[ReplyEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._over = False

    def _receive(self, event: ReplyEvent) -> None:
        """Pass an event to the loop; it is read there."""
        try:
            self._loop.call(self.take, event)
        except StoppedError:
            LOG.debug("%s: its loop has ended", self.request)

    # -- the loop ------------------------------------------------------------------------------

    def take(self, event: ReplyEvent) -> None:
        """Take what comes for it."""
        if self._over:
            self._drop(event)
            return
        self._events.append(event)
        self._wake()

    async def next_answer(self) -> dict[str, Any]:
        """Await the next answer.

        Raises:
            RequestTimeoutError: none came in time.
            MQError: what went wrong; see `RequestClient.request`.
        """
        events = self._events
        while True:
            if not events:
                await self._something()
            answer = self.channel.read(self.request, events.popleft())
            if answer is not None:
                return answer

    async def publish_when_writable(self, calls: BlockingCalls) -> None:
        """Send it when the broker takes what was sent before.

        Args:
            calls: makes the call that waits for that.

        Raises:
            RequestLostError, RequestTimeoutError: it was not sent.
        """
        left = time_left(self.request.spec.deadline)
        try:
            await calls.run(
                lambda: self.channel.publish(self.request, timeout=left),
                timeout=left,
                what="sending it",
            )
        except WaitTimeoutError as error:
            raise self.request.spec.not_sent(error) from error

    def end(self) -> None:
        """Drop what is still received."""
        self._over = True
        self.channel.remove(self.request)
        if self._timer is not None:
            self._timer.cancel()
        while self._events:
            self._drop(self._events.popleft())

    async def _something(self) -> None:
        """Wait until something has come.

        Raises:
            RequestTimeoutError: nothing did in time.
        """
        loop = self._loop.loop
        if self._timer is None:
            self._timer = loop.call_later(time_left(self.request.spec.deadline), self._expire)
        if not self._late:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._events:
            raise self.channel.expire(self.request)

    def _expire(self) -> None:
        self._late = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _drop(self, event: ReplyEvent) -> None:
        if not isinstance(event, MQError):
            self.channel.shared.drop(self.request.message.message_id)
