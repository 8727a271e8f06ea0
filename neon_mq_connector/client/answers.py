"""The readers of the answers to a request: a thread or coroutine that waits, or a future."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any, TypeVar

from neon_mq_connector.client.inbox import Inbox
from neon_mq_connector.client.reply_channel import PATIENCE, ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, RequestSpec, is_final
from neon_mq_connector.errors import RemoteError, RequestTimeoutError
from neon_mq_connector.publishing.message import Flush
from neon_mq_connector.threads.futures import CancellableFuture
from neon_mq_connector.topology import QueueStatus

LOG = logging.getLogger("neon_mq_connector.client")

T = TypeVar("T")


class Answers:
    """The answers to one request, for one reader, which waits on an inbox.

    Args:
        channel: what the request is sent on.
        spec: what is asked.
        inbox: receives what comes.
        reply_queue: the queue for answers that are not direct; the channel's by default.

    Attributes:
        channel: the same.
        inbox: the same.
        request: the request, to be sent.
    """

    __slots__ = ("channel", "inbox", "request")

    def __init__(
        self,
        channel: ReplyChannel,
        spec: RequestSpec,
        inbox: Inbox[ReplyEvent],
        reply_queue: str = "",
    ) -> None:
        self.channel = channel
        self.inbox = inbox
        self.request = channel.request(spec, inbox.put, reply_queue)

    async def next(self, *, explain: bool = True) -> dict[str, Any]:
        """Wait for the next answer; raises what `RequestClient.request` raises.

        Args:
            explain: when it is late, ask the broker why, which may take a moment.
        """
        channel, request, inbox = self.channel, self.request, self.inbox
        while True:
            try:
                event = await inbox.get(request.spec.deadline)
            except Empty:
                if explain:
                    raise await channel.late(request, inbox.another()) from None
                raise channel.expire(request) from None
            answer = channel.read(request, event)
            if answer is not None:
                return answer

    async def final(self, on_part: Callable[[dict[str, Any]], object] | None) -> Any:
        """Wait for the answer; of one in parts the last, after a callback got all of them.

        Args:
            on_part: called with each part, and awaited if it is a coroutine function; None for an
                answer that does not come in parts.
        """
        while True:
            answer = await self.next()
            if on_part is not None:
                result = on_part(answer)
                if inspect.isawaitable(result):
                    await result
            if on_part is None or is_final(answer):
                return self.request.spec.convert(answer)

    async def gather(self, count: int | None) -> list[dict[str, Any]]:
        """Wait for a number of answers, or until the time is up; see `RequestClient.gather`."""
        answers: list[dict[str, Any]] = []
        failures: list[RemoteError] = []
        while count is None or len(answers) + len(failures) < count:
            try:
                answers.append(await self.next(explain=False))
            except RequestTimeoutError:
                break
            except RemoteError as error:
                failures.append(error)
        if failures and not answers:
            raise failures[0]
        for failure in failures:
            LOG.warning("%s", failure)
        return answers


class FutureAnswer:
    """A request whose answer comes into a future; it is read on the thread of futures.

    Attributes:
        future: the answer, of one in parts the first.
        deadline: until when it is waited for, on the monotonic clock, in seconds.
    """

    __slots__ = ("_channel", "_is_late", "_request", "_thread", "deadline", "future")

    def __init__(self, channel: ReplyChannel, spec: RequestSpec) -> None:
        self.deadline = spec.deadline
        self.future: CancellableFuture[Any] = CancellableFuture(self._forget)
        self._is_late = False
        self._channel = channel
        self._thread = channel.shared.futures
        self._request = channel.request(spec, self._receive)

    def start(self) -> CancellableFuture[Any]:
        """Send the request together with others, return the future; raises as its channel does."""
        try:
            self._thread.expect(self)
            self._channel.start(self._request, Flush.SOON)
        except BaseException:
            self._forget()
            raise
        return self.future

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
        self._channel.look_up(
            self._request.spec, lambda status: self._thread.call(partial(self._end_late, status))
        )

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
            result = None if answer is None else self._request.spec.convert(answer)
        except Exception as error:
            self._end(self.future.set_exception, error)
            return
        if answer is not None:
            self._end(self.future.set_result, result)

    def _end(self, settle: Callable[[T], object], value: T) -> None:
        self._forget()
        self.future.release()
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            settle(value)

    def _forget(self) -> None:
        self._thread.forget(self)
        self._channel.remove(self._request)
