"""A request for whose answers a thread waits."""

from __future__ import annotations

from queue import Empty
from typing import Any

from neon_mq_connector.client.question import Question
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, Request
from neon_mq_connector.deadline import time_left
from neon_mq_connector.link import Returned
from neon_mq_connector.threads.mailbox import Mailbox


class WaitingRequest(Request):
    """A request for whose answers a thread waits; arguments as for `Request`."""

    __slots__ = ("_events",)

    def __init__(self, channel: ReplyChannel, question: Question, address: str = "") -> None:
        super().__init__(channel, question, address)
        self._events: Mailbox[ReplyEvent] = Mailbox()

    def deliver(self, event: ReplyEvent) -> None:
        """Hand what comes to the thread that waits."""
        self._events.put(event)

    def __enter__(self) -> WaitingRequest:
        """Send it; what comes for it is kept until the end of the block."""
        try:
            self.channel.add(self)
            self.publish()
        except BaseException:
            self.channel.remove(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.remove(self)

    def next_answer(self) -> dict[str, Any]:
        """Wait for the next answer; what else comes for the request is dealt with.

        Raises:
            RequestTimeoutError: none came in time.
            MQError: what went wrong; see `RequestClient.request`.
        """
        while True:
            self.channel.read_until(self._events.qsize, self.deadline)
            try:
                event = self._events.get(timeout=time_left(self.deadline))
            except Empty:
                raise self.late() from None
            if isinstance(event, Returned):
                self.came_back()
                self.declare_and_publish()
                continue
            answer = self.read(event)
            if answer is not None:
                return answer
