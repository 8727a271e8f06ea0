"""A request whose answers a coroutine awaits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.client.question import Question
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, Request
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError, StoppedError, WaitTimeoutError
from neon_mq_connector.link import Returned

LOG = logging.getLogger("neon_mq_connector.client")


class AwaitedRequest(Request):
    """A request whose answers a coroutine awaits; owned by the loop, but for `deliver`.

    Args:
        loop: where it is awaited.
        channel: what it leaves on, and its answers come in on.
        question: what is asked.
        address: the queue for answers that are not direct.
    """

    __slots__ = ("_events", "_late", "_loop", "_over", "_timer", "_waiter")

    def __init__(
        self, loop: CoroutineLoop, channel: ReplyChannel, question: Question, address: str = ""
    ) -> None:
        super().__init__(channel, question, address)
        self._loop = loop
        self._events: deque[ReplyEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._over = False

    def deliver(self, event: ReplyEvent) -> None:
        """Hand what comes to the loop; it is read there."""
        try:
            self._loop.call(self.take, event)
        except StoppedError:
            LOG.debug("%s: whoever awaits it is gone with its loop", self)

    # -- the loop ------------------------------------------------------------------------------

    def take(self, event: ReplyEvent) -> None:
        """Take what comes for it."""
        if self._over:
            self._drop(event)
            return
        self._events.append(event)
        self._wake()

    async def next_answer(self, calls: BlockingCalls) -> dict[str, Any]:
        """Await the next answer; what else comes for the request is dealt with.

        Args:
            calls: makes the calls that wait for the broker.

        Raises:
            RequestTimeoutError: none came in time.
            MQError: what went wrong; see `RequestClient.request`.
        """
        events = self._events
        while True:
            if not events:
                await self._something()
            event = events.popleft()
            if isinstance(event, Returned):
                self.came_back()
                await self._away(calls, again=True)
                continue
            answer = self.read(event)
            if answer is not None:
                return answer

    async def publish_when_writable(self, calls: BlockingCalls) -> None:
        """Send it when the broker takes what was sent before.

        Args:
            calls: makes the call that waits for that.

        Raises:
            RequestLostError, RequestTimeoutError: it was not sent.
        """
        await self._away(calls, again=False)

    def end(self) -> None:
        """Take it that nobody awaits it any more: what still comes is dropped."""
        self._over = True
        self.channel.remove(self)
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
            self._timer = loop.call_later(time_left(self.deadline), self._expire)
        if not self._late:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._events:
            raise self.late()

    async def _away(self, calls: BlockingCalls, *, again: bool) -> None:
        try:
            await calls.run(
                self.declare_and_publish if again else self.publish,
                timeout=time_left(self.deadline),
                what="sending it",
            )
        except WaitTimeoutError as error:
            raise self.question.not_sent(error) from error

    def _expire(self) -> None:
        self._late = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _drop(self, event: ReplyEvent) -> None:
        if not isinstance(event, (Returned, MQError)):
            self.channel.shared.drop(self.outgoing.message_id)
