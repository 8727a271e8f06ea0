"""`create_mq_callback`: a function of a decoded request as the callback of a consumer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from neon_mq_connector.aio.signatures import TAKES_DELIVERY, is_coroutine_function, name_of
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.handlers.incoming import Incoming, read_request, running_channel
from neon_mq_connector.handlers.models import name_of_type, validate

LOG = logging.getLogger("neon_mq_connector.callback")

_NAMES = ("channel", "method", "properties", "body")
Function = Callable[..., Any]
R = TypeVar("R")


@overload
def create_mq_callback(callback: Callable[..., R]) -> Callable[..., R]: ...


@overload
def create_mq_callback(
    *, include_callback_props: Iterable[str] = ..., request_model: Any = ...
) -> Callable[[Callable[..., R]], Callable[..., R]]: ...


def create_mq_callback(
    callback: Function | None = None,
    *,
    include_callback_props: Iterable[str] = ("body",),
    request_model: Any = None,
) -> Any:
    """Make a callback of a function that takes a decoded request; of a coroutine function, one.

    The function is called with keyword arguments. A dict, a model of pydantic or a dataclass that
    it returns is the answer: it is sent to the queue that the request names as ``routing_key``, or
    as AMQP's ``reply_to``, in the virtual host of the request, with the request's ``message_id`` in
    ``context.mq``. None and an empty dict answer nothing. The callback does not wait for the
    answer's confirm; an ack of the request does.

    Called by a consumer, what the function raises (and a request that cannot be read) is reported
    to ``on_error`` and the message is treated as one that failed; so is what it returns, if that is
    no answer and the request wants one that the function has not sent itself. Called by hand it is
    logged and the result is None; what a method of an `MQConnector` returns is sent with its
    `send_message`, unless it is a coroutine function.

    Args:
        callback: the function to wrap, where the decorator is used without parentheses.
        include_callback_props: which of ``channel``, ``method``, ``properties`` and ``body`` the
            function takes.
        request_model: a pydantic model; the function gets an instance of it as ``body``.

    Returns:
        The callback, or a decorator that makes it.

    Examples:
        >>> class Echo(MQConnector):
        ...     @create_mq_callback()
        ...     def echo(self, body):
        ...         return {"text": body["text"]}
    """
    taken = [(name, _NAMES.index(name)) for name in include_callback_props if name in _NAMES]

    def decorate(wrapped: Function) -> Function:
        def logged(args: tuple[Any, ...]) -> bool:
            """Log what went wrong if it was called by hand; return whether it was."""
            by_hand = not args or running_channel(args[-1]) is None
            if by_hand:
                LOG.exception("%s failed", name_of(wrapped))
            return by_hand

        @functools.wraps(wrapped)
        def run(*args: Any) -> Any:
            try:
                owner, keywords, request = _read(args, taken, request_model)
                result = wrapped(*owner, **keywords)
                answer = request.answer(result)
                if answer is not None and owner and isinstance(owner[0], MQConnector):
                    owner[0].send_message(answer, vhost=owner[0].vhost, queue=request.queue)
            except Exception:
                if logged(args):
                    return None
                raise
            return result

        @functools.wraps(wrapped)
        async def await_run(*args: Any) -> Any:
            try:
                owner, keywords, request = _read(args, taken, request_model)
                result = await wrapped(*owner, **keywords)
                request.answer(result)
            except Exception:
                if logged(args):
                    return None
                raise
            return result

        callback = await_run if is_coroutine_function(wrapped) else run
        setattr(callback, TAKES_DELIVERY, True)
        return callback

    return decorate if callback is None else decorate(callback)


def _read(
    args: tuple[Any, ...], taken: list[tuple[str, int]], model: Any
) -> tuple[tuple[Any, ...], dict[str, Any], Incoming]:
    """Read a request.

    Args:
        args: the arguments of a callback, after its ``self`` if it is a method.
        taken: the names of those that the function takes, and their indices.
        model: the pydantic model of the ``body``; None for a dict.

    Returns:
        The ``self`` (empty where there is none), the function's keyword arguments, the request.

    Raises:
        TypeError: these are not the arguments of a callback.
        DecodeError: the body is no message.
        InvalidRequestError: the request does not fit the model.
    """
    count = len(args) - len(_NAMES)
    if count < 0:
        raise TypeError(
            "a callback is called with channel, method, properties and body, not with "
            f"{len(args)} arguments"
        )
    values = list(args[count:])
    request = read_request(values[0], values[2], values[3])
    values[-1] = request.data
    if model is not None:
        values[-1] = validate(model.model_validate, request.data, name_of_type(model))
    return args[:count], {name: values[index] for name, index in taken}, request
