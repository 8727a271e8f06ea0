"""How the answers to one request are read, by a thread or by a coroutine; see `inbox`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

from neon_mq_connector.client.inbox import Inbox
from neon_mq_connector.client.late import status_of
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, RequestSpec, is_final
from neon_mq_connector.errors import RemoteError, RequestTimeoutError

LOG = logging.getLogger("neon_mq_connector.client")


class Answers:
    """The answers to one request, for one reader.

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
                status = None
                if explain:
                    connections = channel.shared.connections
                    status = await status_of(connections, request.spec, inbox.another())
                raise channel.expire(request, status) from None
            answer = channel.read(request, event)
            if answer is not None:
                return answer

    async def final(self, on_part: Callable[[dict[str, Any]], object] | None) -> dict[str, Any]:
        """Wait for the answer; of one in parts the last, after a callback got all of them.

        Args:
            on_part: called with each part, and awaited if it is a coroutine function; None for an
                answer that does not come in parts.
        """
        while True:
            answer = await self.next()
            if on_part is None:
                return answer
            result = on_part(answer)
            if inspect.isawaitable(result):
                await result
            if is_final(answer):
                return answer

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
