"""One request on its way: how it is made and sent, and how what comes for it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neon_mq_connector.codec import decode_body
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO, LONGEST_EXPIRATION
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    RequestLostError,
    RequestTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import RawDelivery, Returned, content_type
from neon_mq_connector.publishing.confirm_channel import Flush
from neon_mq_connector.sending.outgoing import context_message_id, prepare_encoded
from neon_mq_connector.topology import Queue, declare_queue

if TYPE_CHECKING:
    from neon_mq_connector.client.question import Question
    from neon_mq_connector.client.reply_channel import ReplyChannel

#: What may come for a request: an answer, the request itself, or the end of its channel.
ReplyEvent = RawDelivery | Returned | MQError


class Request(ABC):
    """A request, from before it is sent until it is answered or given up.

    How its answers are waited for is a matter of the classes below.

    Args:
        channel: what it leaves on, and its answers come in on.
        question: what is asked.
        address: the queue for answers that are not direct; the channel's by default.

    Attributes:
        channel: the same.
        question: the same.
        correlation_id: what direct answers carry.
        outgoing: the message.
        deadline: until when it is waited for, on the monotonic clock, in seconds.
    """

    __slots__ = ("_declared", "channel", "correlation_id", "deadline", "outgoing", "question")

    def __init__(self, channel: ReplyChannel, question: Question, address: str = "") -> None:
        self.channel = channel
        self.question = question
        self.deadline = question.deadline
        self.correlation_id = channel.shared.next_number()
        self._declared = bool(question.exchange)
        address = address or channel.reply_queue
        self.outgoing = prepare_encoded(
            {**question.data, "routing_key": address},
            wire_format=question.wire_format,
            expiration=min(max(1.0, question.timeout * 1000), LONGEST_EXPIRATION),
            app_id=channel.shared.owner,
            correlation_id=self.correlation_id,
            reply_to=DIRECT_REPLY_TO,
            reply_queue=address,
            time_allowed=int(question.timeout * 1000),
        )

    def __str__(self) -> str:
        """Name the request by its id and where it goes."""
        return f"request {self.outgoing.message_id} to {self.question.place}"

    @abstractmethod
    def deliver(self, event: ReplyEvent) -> object:
        """Take what comes for it; called by any thread, which must not be held up."""

    def publish(self, flush: Flush = Flush.NOW, *, waits: bool = True) -> None:
        """Send it.

        Args:
            flush: when it is to be written.
            waits: whether to wait for the broker to take what was sent before.

        Raises:
            RequestLostError: the connection is gone; it was not sent.
            RequestTimeoutError: the broker takes nothing.
        """
        question = self.question
        try:
            self.channel.publish(
                question.exchange,
                question.queue,
                self.outgoing,
                timeout=time_left(self.deadline) if waits else 0.0,
                flush=flush,
            )
        except MQConnectionError as error:
            raise self.lost(error) from error
        except WaitTimeoutError as error:
            raise RequestTimeoutError(f"{self}: not sent: {error}") from error

    def came_back(self) -> None:
        """Take note that no queue takes it: from here on its queue is to be declared.

        Raises:
            UnroutableError: it was declared before, or there is an exchange, where nobody is.
        """
        if self._declared:
            raise UnroutableError(f"{self}: no queue takes it", may_have_arrived=False)
        self._declared = True

    def declare_and_publish(self) -> None:
        """Declare its queue and send it once more; waits for the broker.

        Raises:
            RequestTimeoutError: the broker did not answer in time.
            TopologyError: it refused.
            RequestLostError, MQConnectionError: the connection is gone.
        """
        question = self.question
        try:
            self.channel.shared.connections.control.perform(
                f"declaring {question.place}",
                lambda facts: declare_queue(Queue(question.queue), facts),
                timeout=time_left(self.deadline),
            )
        except WaitTimeoutError as error:
            raise question.not_sent(error) from error
        self.publish()

    def read(self, event: RawDelivery | MQError) -> dict[str, Any] | None:
        """Read what came for it.

        Returns:
            The answer; None for one that came through the right channel in the name of another
            request, to which it is given.

        Raises:
            RequestLostError: the channel has ended.
            DecodeError: the answer cannot be read.
        """
        if isinstance(event, MQError):
            raise self.lost(event)
        answer = read_answer(event)
        owner = answer_id(answer)
        if owner is None or owner == self.outgoing.message_id:
            return answer
        self.channel.assign(owner, event)
        return None

    def lost(self, error: MQError) -> MQError:
        """Make the error for a channel that ended; a client that was closed says so itself."""
        if not isinstance(error, MQConnectionError):
            return error
        lost = RequestLostError(f"{self}: {error}")
        lost.__cause__ = error
        return lost

    def late(self) -> RequestTimeoutError:
        """Make the error for an answer that did not come in time."""
        reason = self.channel.blocked_reason
        blocked = f"; the broker has blocked publishing: {reason}" if reason else ""
        timeout = self.question.timeout
        return RequestTimeoutError(f"{self}: no answer within {timeout:g} s{blocked}")


def read_answer(raw: RawDelivery) -> dict[str, Any]:
    """Decode an answer.

    Raises:
        DecodeError, FrameError: it cannot be read.
    """
    _method, header, body = raw
    answer, _format = decode_body(body, content_type(header))
    return answer


def answer_id(answer: Mapping[str, Any]) -> str | None:
    """Read which request an answer is for: ``context.mq.message_id``, or else ``message_id``."""
    own = context_message_id(answer)
    if own is None:
        value = answer.get("message_id")
        own = None if value is None else str(value)
    return own


def is_final(answer: Mapping[str, Any]) -> bool:
    """Say whether a part is the last: ``is_final`` or ``_is_final``, there or in ``context.mq``."""
    context = answer.get("context")
    mq = context.get("mq") if isinstance(context, Mapping) else None
    places = (answer, mq) if isinstance(mq, Mapping) else (answer,)
    return any(bool(place.get(key)) for place in places for key in ("is_final", "_is_final"))
