"""Read requests and send answers, for decorated callbacks and handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from neon_mq_connector.client.request import is_final
from neon_mq_connector.codec import decode_body
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel, current_channel
from neon_mq_connector.consumers.reply_route import EXPIRATION, PART_EXPIRATION, Reply
from neon_mq_connector.errors import DecodeError, InvalidAnswerError
from neon_mq_connector.handlers.models import as_dict

#: Makes a dict of what a function has returned; raises `InvalidAnswerError`.
Write = Callable[[Any], dict[str, Any]]


class Incoming(NamedTuple):
    """A request that was read.

    Attributes:
        data: what it says.
        channel: on which it came; None where a callback was called by hand.
        queue: what it names as ``routing_key``.
        message_id: its id.
    """

    data: dict[str, Any]
    channel: DeliveryChannel | None
    queue: Any
    message_id: Any

    @property
    def reply(self) -> Reply | None:
        """The route of the answer; None where its sender wants none, or it was called by hand.

        Raises:
            DecodeError: it names no queue, but something else.
        """
        queue, channel = self.queue, self.channel
        if queue and not isinstance(queue, str):
            raise DecodeError(f"routing_key is {type(queue).__name__}, not the name of a queue")
        return None if channel is None else channel.reply(queue or None)


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
    return Incoming(data, channel, data.get("routing_key"), message_id)


def send_answer(
    request: Incoming, result: Any, write: Write = as_dict, *, ends: bool = False
) -> dict[str, Any] | None:
    """Send what a function has returned, if it is an answer.

    Args:
        request: what it answers.
        result: what was returned; of a decorated callback None or an empty dict answers nothing.
        write: makes a dict of it.
        ends: whether parts were sent before, so that this is the last.

    Returns:
        An answer that is still to be sent, since the function was called by hand.

    Raises:
        InvalidAnswerError: it is no answer, and the request wants one that was not sent yet.
        EncodeError: it cannot be encoded as the request is.
        PublishError: there is no connection to publish on.
    """
    if write is as_dict and (result is None or (not result and isinstance(result, dict))):
        return None
    reply, channel = request.reply, request.channel
    if reply is None or channel is None:
        return _by_hand(request, result)
    if type(result) is not dict or write is not as_dict:
        if write is as_dict and channel.has_answered:
            return None  # callbacks that send their answers themselves may return anything
        result = write(result)
    expiration = PART_EXPIRATION if ends else EXPIRATION
    channel.answer(_answer(request, result, ends or None), reply, expiration=expiration)
    return None


class PartsSender:
    """Send the parts of an answer, each as soon as it is there; used by one thread at a time.

    The end is a message of its own, without contents, so that no part waits for the next one.
    Nothing is sent where no answer is wanted.

    Args:
        request: what is answered.
        write: makes a dict of a part.

    Attributes:
        has_sent: whether there was a part.
    """

    __slots__ = ("_is_final", "_request", "_write", "has_sent")

    def __init__(self, request: Incoming, write: Write) -> None:
        self._request = request
        self._write = write
        self._is_final = False
        self.has_sent = False

    def send(self, part: Any) -> Any:
        """Send a part.

        Returns:
            What a coroutine awaits before it makes the next part, or None.

        Raises:
            Exception: as `send_answer`, and when the reply queue is gone.
        """
        data = self._write(part)
        self._is_final = is_final(data)
        self.has_sent = True
        return self._send(data, is_final=self._is_final)

    def end(self) -> None:
        """Send the end of the answer, unless the last part was marked as final."""
        if not self._is_final:
            self._send({}, is_final=True)

    def _send(self, data: dict[str, Any], *, is_final: bool) -> Any:
        channel, reply = self._request.channel, self._request.reply
        if channel is None or reply is None:
            return None
        if channel.message is not None:
            channel.message.is_partly_answered = True
        answer = _answer(self._request, data, is_final)
        return channel.answer(answer, reply, expiration=PART_EXPIRATION)


def _by_hand(request: Incoming, result: Any) -> dict[str, Any] | None:
    if not request.queue:
        return None
    try:
        answer = as_dict(result)
    except InvalidAnswerError:
        return None
    return _answer(request, answer) if answer else None


def _answer(
    request: Incoming, result: dict[str, Any], is_final: bool | None = None
) -> dict[str, Any]:
    """Return an answer with the id of its request, and of a part whether it is the last."""
    context = result.get("context")
    context = dict(context) if isinstance(context, Mapping) else {}
    mq = context.get("mq")
    context["mq"] = mq = dict(mq) if isinstance(mq, Mapping) else {}
    if request.message_id is not None or request.queue:
        mq["message_id"] = request.message_id
    if is_final is not None:
        mq["is_final"] = is_final
    return {**result, "context": context} if mq or not result else result
