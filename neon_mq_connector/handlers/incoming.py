"""A request that a decorated callback or a handler gets: read it, and send its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neon_mq_connector.client.request import is_final
from neon_mq_connector.codec import decode_body
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel, current_channel
from neon_mq_connector.consumers.reply_route import PART_EXPIRATION, Reply
from neon_mq_connector.errors import DecodeError, InvalidAnswerError
from neon_mq_connector.handlers.models import as_dict

#: Makes a dict of what a function has returned; raises `InvalidAnswerError`.
Write = Callable[[Any], dict[str, Any]]


class Incoming:
    """A request that was read, and what of its answer was sent; used by one thread at a time.

    The answer may come in parts, each sent as soon as it is there. Their end is a message of its
    own, without contents, so that no part waits for the next one.

    Attributes:
        data: what it says.
        channel: on which it came; None where a callback was called by hand.
        queue: what it names as ``routing_key``.
        message_id: its id.
        has_parts: whether a part of the answer was sent.
    """

    __slots__ = ("_is_ended", "channel", "data", "has_parts", "message_id", "queue")

    def __init__(
        self, data: dict[str, Any], channel: DeliveryChannel | None, message_id: Any
    ) -> None:
        self.data = data
        self.channel = channel
        self.queue = data.get("routing_key")
        self.message_id = message_id
        self.has_parts = self._is_ended = False

    def reply(self) -> Reply | None:
        """Return the route of the answer; None where none is wanted, or it was called by hand.

        Raises:
            DecodeError: it names no queue, but something else.
        """
        queue, channel = self.queue, self.channel
        if queue and not isinstance(queue, str):
            raise DecodeError(f"routing_key is {type(queue).__name__}, not the name of a queue")
        return None if channel is None else channel.reply(queue or None)

    def answer(self, result: Any, write: Write = as_dict) -> dict[str, Any] | None:
        """Send what a function has returned, if it is an answer.

        Args:
            result: what was returned; of a decorated callback None or an empty dict answers
                nothing.
            write: makes a dict of it.

        Returns:
            An answer that is still to be sent, since the function was called by hand.

        Raises:
            InvalidAnswerError: it is no answer, and the request wants one that was not sent yet.
            EncodeError: it cannot be encoded as the request is.
            PublishError: there is no connection to publish on.
        """
        if write is as_dict and (result is None or (not result and isinstance(result, dict))):
            return None
        reply, channel = self.reply(), self.channel
        if reply is None or channel is None:
            return self._by_hand(result)
        if type(result) is not dict or write is not as_dict:
            if write is as_dict and channel.has_answered:
                return None  # callbacks that send their answers themselves may return anything
            result = write(result)
        if self.has_parts:
            channel.answer(self._of(result, True), reply, expiration=PART_EXPIRATION)
        else:
            channel.answer(self._of(result), reply)
        return None

    def send_part(self, data: dict[str, Any]) -> Any:
        """Send a part of the answer, unless none is wanted.

        Returns:
            What a coroutine awaits before it makes the next part, or None.

        Raises:
            EncodeError, PublishError: as `answer`.
            ReaderGoneError: the reply queue is gone.
        """
        self.has_parts = True
        self._is_ended = is_final(data)
        return self._send(data)

    def end_parts(self) -> None:
        """Send the end of the parts, unless the last one was marked as final."""
        if not self._is_ended:
            self._is_ended = True
            self._send({})

    def _send(self, part: dict[str, Any]) -> Any:
        channel, reply = self.channel, self.reply()
        if channel is None or reply is None:
            return None
        if channel.message is not None:
            channel.message.is_partly_answered = True
        answer = self._of(part, self._is_ended)
        return channel.answer(answer, reply, expiration=PART_EXPIRATION)

    def _by_hand(self, result: Any) -> dict[str, Any] | None:
        if not self.queue:
            return None
        try:
            answer = as_dict(result)
        except InvalidAnswerError:
            return None
        return self._of(answer) if answer else None

    def _of(self, result: dict[str, Any], is_final: bool | None = None) -> dict[str, Any]:
        """Return an answer with the id of the request, and of a part whether it is the last."""
        context = result.get("context")
        context = dict(context) if context and isinstance(context, (dict, Mapping)) else {}
        mq = context.get("mq")
        context["mq"] = mq = dict(mq) if mq and isinstance(mq, (dict, Mapping)) else {}
        if self.message_id is not None or self.queue:
            mq["message_id"] = self.message_id
        if is_final is not None:
            mq["is_final"] = is_final
        return {**result, "context": context} if mq or not result else result


def running_channel(body: Any) -> DeliveryChannel | None:
    """Return the channel of the running callback, if it is called with this body."""
    channel = current_channel.get()
    if channel is None or channel.delivery is None or channel.delivery.body is not body:
        return None
    return channel


def read_request(channel: Any, properties: Any, body: Any) -> Incoming:
    """Read the request that a callback is called with.

    Args:
        channel: what the callback got as its channel.
        properties: its properties.
        body: its body; called by hand it may be a dict.

    Raises:
        DecodeError: the body is no message.
    """
    # the channel may be another object, of code that has wrapped the callback
    channel = channel if isinstance(channel, DeliveryChannel) else running_channel(body)
    if isinstance(body, (bytes, bytearray)):
        data, wire_format = decode_body(bytes(body), getattr(properties, "content_type", None))
        if channel is not None:
            channel.note_request(body, data.get("routing_key"), wire_format)
    elif isinstance(body, Mapping):
        data = dict(body)
    else:
        raise DecodeError(f"invalid body: bytes are expected, got {type(body).__name__}")
    message_id = data.get("message_id")
    if message_id is None:
        message_id = getattr(properties, "message_id", None)
    return Incoming(data, channel, message_id)
