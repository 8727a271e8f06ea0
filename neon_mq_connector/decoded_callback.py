"""`create_mq_callback`: a function of a decoded request as the callback of a consumer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, overload

from neon_mq_connector.aio.signatures import TAKES_DELIVERY, is_coroutine_function, name_of
from neon_mq_connector.codec import decode_body
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel, current_channel
from neon_mq_connector.errors import DecodeError

LOG = logging.getLogger("neon_mq_connector.callback")

_NAMES = ("channel", "method", "properties", "body")
Function = Callable[..., Any]


@overload
def create_mq_callback(callback: Function) -> Function: ...


@overload
def create_mq_callback(
    *, include_callback_props: Iterable[str] = ..., request_model: Any = ...
) -> Callable[[Function], Function]: ...


def create_mq_callback(
    callback: Function | None = None,
    *,
    include_callback_props: Iterable[str] = ("body",),
    request_model: Any = None,
) -> Any:
    """Make a callback of a function that takes a decoded request; of a coroutine function, one.

    The function is called with keyword arguments. A dict that it returns is the answer: it is sent
    to the queue that the request names as ``routing_key``, in the virtual host of the request, with
    the request's ``message_id`` in ``context.mq``. The callback does not wait for its confirm; an
    ack of the request does.

    Called by a consumer, what the function raises (and a request that cannot be read) is reported
    to ``on_error`` and the message is treated as one that failed. Called by hand it is logged and
    the result is None; what a method of a connector returns is sent with its `send_message`.

    Args:
        callback: the function to wrap, where the decorator is used without parentheses.
        include_callback_props: which of ``channel``, ``method``, ``properties`` and ``body`` the
            function takes.
        request_model: a pydantic model; the function gets an instance of it as ``body``.

    Returns:
        The callback, or a decorator that makes it.

    Example:
        >>> class Echo(MQConnector):
        ...     @create_mq_callback()
        ...     def echo(self, body):
        ...         return {"text": body["text"]}
    """
    taken = [(name, _NAMES.index(name)) for name in include_callback_props if name in _NAMES]

    def decorate(wrapped: Function) -> Function:
        def read(args: tuple[Any, ...]) -> _Request:
            return _read(args, taken, request_model)

        def logged(args: tuple[Any, ...]) -> bool:
            """Log what went wrong if it was called by hand; return whether it was."""
            by_hand = not args or _current(args[-1]) is None
            if by_hand:
                LOG.exception("%s failed", name_of(wrapped))
            return by_hand

        @functools.wraps(wrapped)
        def call(*args: Any) -> Any:
            try:
                request = read(args)
                result = wrapped(*request.owner, **request.keywords)
                if (answer := _answer(request, result)) is not None:
                    _send_by_hand(request, answer)
            except Exception:
                if logged(args):
                    return None
                raise
            return result

        @functools.wraps(wrapped)
        async def await_call(*args: Any) -> Any:
            try:
                request = read(args)
                result = await wrapped(*request.owner, **request.keywords)
                if (answer := _answer(request, result)) is not None:
                    await _send_by_hand_async(request, answer)
            except Exception:
                if logged(args):
                    return None
                raise
            return result

        if is_coroutine_function(wrapped):
            setattr(await_call, TAKES_DELIVERY, True)
            return await_call
        return call

    return decorate if callback is None else decorate(callback)


def _current(body: Any) -> DeliveryChannel[Any, Any] | None:
    """Return the channel of the running callback, if it is called with this body."""
    channel = current_channel.get()
    if channel is None or channel.delivery is None or channel.delivery.body is not body:
        return None
    return channel


class _Request(NamedTuple):
    """What a function is about to be called with.

    Attributes:
        owner: whose method it is; empty where it is no method.
        keywords: the arguments.
        channel: on which the request came; None where it was called by hand.
        queue: where the request wants its answer.
        message_id: of the request.
    """

    owner: tuple[Any, ...]
    keywords: dict[str, Any]
    channel: DeliveryChannel[Any, Any] | None
    queue: Any
    message_id: Any


def _read(args: tuple[Any, ...], taken: list[tuple[str, int]], model: Any) -> _Request:
    """Decode a request.

    Args:
        args: the arguments of a callback, after its ``self`` if it is a method.
        taken: the names of those that the function takes, and their indices.
        model: the pydantic model of the ``body``; None for a dict.

    Raises:
        TypeError: these are not the arguments of a callback.
        DecodeError: the body is no message.
        pydantic.ValidationError: the request does not fit the model.
    """
    count = len(args) - len(_NAMES)
    if count < 0:
        raise TypeError(
            "a callback is called with channel, method, properties and body, not with "
            f"{len(args)} arguments"
        )
    values = list(args[count:])
    channel, _method, properties, body = values
    # the channel may be another object, of code that has wrapped the callback
    channel = channel if isinstance(channel, DeliveryChannel) else _current(body)
    if isinstance(body, (bytes, bytearray)):
        request, wire_format = decode_body(bytes(body), getattr(properties, "content_type", None))
        if channel is not None:
            channel.note_request(body, request.get("routing_key"), wire_format)
    elif isinstance(body, Mapping):
        request = dict(body)
    else:
        raise DecodeError(f"invalid body: bytes are expected, got {type(body).__name__}")
    queue, message_id = request.get("routing_key"), request.get("message_id")
    values[-1] = request if model is None else model.model_validate(request)
    keywords = {name: values[index] for name, index in taken}
    return _Request(args[:count], keywords, channel, queue, message_id)


def _answer(request: _Request, result: Any) -> dict[str, Any] | None:
    """Send what a function has returned, if it is an answer.

    Returns:
        An answer that is still to be sent, since the function was called by hand.
    """
    queue, channel = request.queue, request.channel
    if not isinstance(result, dict) or not result or not queue:
        return None
    if not isinstance(queue, str):
        raise DecodeError(f"routing_key is {type(queue).__name__}, not the name of a queue")
    context = result.get("context")
    context = dict(context) if isinstance(context, Mapping) else {}
    mq = context.get("mq")
    mq = dict(mq) if isinstance(mq, Mapping) else {}
    context["mq"] = {**mq, "message_id": request.message_id}
    answer = {**result, "context": context}
    reply = None if channel is None else channel.reply(queue)
    if channel is None or reply is None:
        return answer
    channel.answer(answer, reply)
    return None


def _send_by_hand(request: _Request, answer: dict[str, Any]) -> None:
    owner = request.owner[0] if request.owner else None
    if isinstance(owner, MQConnector):
        owner.send_message(answer, vhost=owner.vhost, queue=request.queue)


async def _send_by_hand_async(request: _Request, answer: dict[str, Any]) -> None:
    owner: Any = request.owner[0] if request.owner else None
    if isinstance(owner, MQConnector):
        import asyncio  # there is a loop, so it is imported already

        # it waits for the broker, and the loop has other callbacks to run
        await asyncio.to_thread(_send_by_hand, request, answer)
        return
    send = getattr(owner, "send_message", None)
    if send is not None and is_coroutine_function(send):
        await send(answer, vhost=owner.vhost, queue=request.queue)
