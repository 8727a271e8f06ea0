"""Publish, and have a future tell of the confirm."""

from __future__ import annotations

import time
from concurrent.futures import Future

from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.publishing.publisher import Publisher


class FutureAnswer:
    """Answer a future."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()

    def resolve(self, value: None) -> None:
        self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        self.future.set_exception(error)


def submit(publisher: Publisher, message: Message, *, timeout: float) -> Future[None]:
    """Publish with others; raises what `Publisher.post` raises."""
    answer = FutureAnswer()
    publisher.post(message, answer, time.monotonic() + timeout, Flush.SOON)
    return answer.future
