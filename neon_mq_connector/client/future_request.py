"""A request whose answer a future tells."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from functools import partial
from typing import Any

from neon_mq_connector.client.question import Question
from neon_mq_connector.client.reply_channel import ReplyChannel
from neon_mq_connector.client.request import ReplyEvent, Request
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Returned
from neon_mq_connector.publishing.confirm_channel import Flush
from neon_mq_connector.threads.futures import CancellableFuture

LOG = logging.getLogger("neon_mq_connector.client")


class ReplyFuture(CancellableFuture[dict[str, Any]]):
    """The answer to come; a request that is cancelled is forgotten, its answer dropped.

    Args:
        forget: what is to be done when it is cancelled.
    """

    def __init__(self, forget: Callable[[], object]) -> None:
        super().__init__()
        self._forget: Callable[[], object] | None = forget

    def cancel(self) -> bool:
        """Wait no longer; the service may still do what it was asked."""
        cancelled = super().cancel()
        forget = self._forget
        if cancelled and forget is not None:
            forget()
            self.let_go()
        return cancelled

    def let_go(self) -> None:
        """Take it that it has ended; what waits in a circle waits for the garbage collector."""
        self._forget = None


class FutureRequest(Request):
    """A request whose answer a future tells; what comes for it is read on the thread of futures.

    Args:
        channel: what it leaves on, and its answers come in on.
        question: what is asked.

    Attributes:
        future: tells the answer, of one in parts the first.
    """

    __slots__ = ("future",)

    def __init__(self, channel: ReplyChannel, question: Question) -> None:
        super().__init__(channel, question)
        self.future = ReplyFuture(self._forget)

    def start(self) -> None:
        """Send it together with others.

        Raises:
            RequestLostError, RequestTimeoutError: it was not sent.
        """
        try:
            self.channel.shared.futures.expect(self)
            self.channel.add(self)
            self.publish(Flush.SOON)
        except BaseException:
            self._forget()
            raise

    def deliver(self, event: ReplyEvent) -> None:
        """Have it read by the thread of futures."""
        self.channel.shared.futures.call(partial(self._handle, event))

    # -- the thread of futures -----------------------------------------------------------------

    def expire(self) -> None:
        """End it, for its time is up."""
        self._fail(self.late())

    def _handle(self, event: ReplyEvent) -> None:
        if self.future.done():
            self._forget()
            self.channel.shared.drop(self.outgoing.message_id)
            return
        try:
            if isinstance(event, Returned):
                self.came_back()
                self.channel.shared.errands.call(self._declare_and_publish)
                return
            answer = self.read(event)
        except MQError as error:
            self._fail(error)
            return
        if answer is not None:
            self._forget()
            self.future.let_go()
            try:
                self.future.set_result(answer)
            except InvalidStateError:
                LOG.debug("%s was answered after it had ended", self)

    def _declare_and_publish(self) -> None:
        """Declare its queue and send it once more; the thread of futures must not wait for that."""
        try:
            self.declare_and_publish()
        except Exception as error:
            self.channel.shared.futures.call(partial(self._fail, error))

    def _fail(self, error: BaseException) -> None:
        self._forget()
        self.future.let_go()
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            LOG.debug("%s failed after it had ended: %s", self, error)

    def _forget(self) -> None:
        self.channel.shared.futures.forget(self)
        self.channel.remove(self)
