"""`create_mq_callback`: a function of a decoded request as the callback of a consumer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, overload

from neon_mq_connector.aio.signatures import TAKES_DELIVERY, is_coroutine_function, name_of
from neon_mq_connector.codec import decode_body
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.consumers.current import current_delivery
from neon_mq_connector.errors import DecodeError
from neon_mq_connector.service.reply import note_request

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

    The function is called with keyword arguments. When it is a method of an `MQConnector` (or of an
    `AsyncMQConnector`) and returns a dict, the dict is sent to the queue that the request names as
    ``routing_key``, with the request's ``message_id`` in ``context.mq``.

    Called by a consumer, what the function raises (and a request that cannot be read) is reported
    to ``on_error`` and the message is treated as one that failed. Called by hand it is logged and
    the result is None.

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
    names = tuple(include_callback_props)

    def decorate(wrapped: Function) -> Function:
        if is_coroutine_function(wrapped):
            return _of_coroutine_function(wrapped, names, request_model)
        return _of_function(wrapped, names, request_model)

    return decorate if callback is None else decorate(callback)


def _of_function(wrapped: Function, names: tuple[str, ...], request_model: Any) -> Function:
    @functools.wraps(wrapped)
    def wrapper(*args: Any) -> Any:
        try:
            call = _read(wrapped, args, names, request_model)
            result = call.function()
            if isinstance(call.owner, MQConnector):
                answer = _answer(call, result)
                if answer is not None:
                    call.owner.send_message(**answer)
            else:
                _warn_if_lost(call, result, wrapped)
        except Exception:
            if _is_called_by_consumer(args):
                raise
            LOG.exception("%s failed", name_of(wrapped))
            return None
        return result

    return wrapper


def _of_coroutine_function(
    wrapped: Function, names: tuple[str, ...], request_model: Any
) -> Function:
    @functools.wraps(wrapped)
    async def wrapper(*args: Any) -> Any:
        try:
            call = _read(wrapped, args, names, request_model)
            result = await call.function()
            if not await _send(call, result):
                _warn_if_lost(call, result, wrapped)
        except Exception:
            if _is_called_by_consumer(args):
                raise
            LOG.exception("%s failed", name_of(wrapped))
            return None
        return result

    setattr(wrapper, TAKES_DELIVERY, True)
    return wrapper


def _is_called_by_consumer(args: tuple[Any, ...]) -> bool:
    current = current_delivery.get()
    return current is not None and len(args) >= len(_NAMES) and args[-1] is current.delivery.body


class _Call(NamedTuple):
    """A function that is about to be called with a request.

    Attributes:
        function: it, to be called without arguments.
        owner: whose method it is; None where it is no method.
        request: as it was decoded.
    """

    function: Function
    owner: Any
    request: Mapping[str, Any]


async def _send(call: _Call, result: Any) -> bool:
    """Send an answer, if the result is one.

    Returns:
        Whether the function is a method of a connector, by which it can be sent.
    """
    send: Function | None = getattr(call.owner, "send_message", None)
    awaited = send is not None and is_coroutine_function(send)
    if send is None or not (awaited or isinstance(call.owner, MQConnector)):
        return False
    answer = _answer(call, result)
    if answer is None:
        return True
    if awaited:
        await send(**answer)
        return True
    import asyncio  # there is a loop, so it is imported already

    # it waits for the broker, and the loop has other callbacks to run
    await asyncio.to_thread(send, **answer)
    return True


#: The functions whose answers went nowhere, and of which the log has told.
_told: set[str] = set()


def _warn_if_lost(call: _Call, result: Any, function: Function) -> None:
    """Tell, once, of an answer that nobody gets."""
    if not isinstance(result, dict) or not result or not call.request.get("routing_key"):
        return
    name = name_of(function)
    if current_delivery.get() is not None and name not in _told:
        _told.add(name)
        LOG.warning(
            "%s returned an answer that is not sent, since it is no method of an MQConnector: make "
            "it one, or publish the answer on the channel (include_callback_props)",
            name,
        )


def _read(
    function: Function, args: tuple[Any, ...], names: tuple[str, ...], request_model: Any
) -> _Call:
    if len(args) < len(_NAMES):
        raise TypeError(
            f"a callback is called with channel, method, properties and body, not with {len(args)} "
            "arguments"
        )
    owner, values = args[: -len(_NAMES)], dict(zip(_NAMES, args[-len(_NAMES) :], strict=True))
    request = _decode(values["body"], values["properties"])
    values["body"] = request if request_model is None else request_model.model_validate(request)
    keywords = {name: values[name] for name in names if name in values}
    return _Call(
        functools.partial(function, *owner, **keywords), owner[0] if owner else None, request
    )


def _decode(body: Any, properties: Any) -> dict[str, Any]:
    if isinstance(body, Mapping):
        return dict(body)
    if not isinstance(body, (bytes, bytearray)):
        raise DecodeError(f"invalid body: bytes are expected, got {type(body).__name__}")
    request, wire_format = decode_body(bytes(body), getattr(properties, "content_type", None))
    note_request(body, request, wire_format)
    return request


def _answer(call: _Call, result: Any) -> dict[str, Any] | None:
    """Make the arguments of `send_message` for an answer; None when there is nothing to send."""
    queue = call.request.get("routing_key")
    if not isinstance(result, dict) or not result or not queue:
        return None
    if not isinstance(queue, str):
        raise DecodeError(f"routing_key is {type(queue).__name__}, not the name of a queue")
    context = result.get("context")
    context = dict(context) if isinstance(context, Mapping) else {}
    mq = context.get("mq")
    context["mq"] = {
        **(mq if isinstance(mq, Mapping) else {}),
        "message_id": call.request.get("message_id"),
    }
    result["context"] = context
    return {"request_data": result, "vhost": call.owner.vhost, "queue": queue}
