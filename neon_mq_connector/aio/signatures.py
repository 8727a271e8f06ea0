"""Whether a callback is a coroutine function, and which arguments it takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from neon_mq_connector.threads import guard

#: Set to True on a callback that takes the four arguments, whatever its signature says.
TAKES_DELIVERY = "_neon_takes_delivery"
_FOUR = "(channel, method, properties, body)"


def _function_of(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a partial function, or of a static method that is not bound yet."""
    while True:
        if isinstance(callback, functools.partial):
            callback = callback.func
        elif isinstance(callback, staticmethod):
            callback = callback.__func__
        else:
            return callback


def is_coroutine_function(callback: Callable[..., Any]) -> bool:
    """Whether a callback is defined by `async def`.

    Methods, partial functions and objects whose ``__call__`` is `async def` are recognised. A
    function that only returns the coroutine of another one is not.
    """
    return _is(inspect.iscoroutinefunction, _function_of(callback))


def as_coroutine_function(callback: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Return a coroutine function for one or for a function, whose result it awaits if it can.

    Args:
        callback: the function.
        what: what it is for, as the error says.

    Raises:
        TypeError: it yields.
    """
    if is_coroutine_function(callback):
        return callback
    if inspect.isgeneratorfunction(callback) or inspect.isasyncgenfunction(callback):
        raise TypeError(
            f"{what} {name_of(callback)} yields, so calling it does nothing; it is a function or a "
            "coroutine function"
        )

    @functools.wraps(callback)
    async def coroutine_function(*arguments: Any) -> None:
        result = callback(*arguments)
        if inspect.isawaitable(result):
            await result

    return coroutine_function


def name_of(callback: Callable[..., Any]) -> str:
    """Return the name by which messages speak of a callback."""
    return guard.name_of(_function_of(callback))


def takes_message(callback: Callable[..., Any], queue: str) -> bool:
    """Return whether a callback takes an aio-pika message, and not pika's four arguments.

    A function takes the four arguments. Of a coroutine function one parameter without a default
    means a message, four mean the four arguments. Parameters with a default do not count, unless
    the four arguments would not fit without them. ``*args`` takes the four. Behind a decorator's
    ``(*args, **kwargs)`` the signature of the function counts. What has no signature, being written
    in C, takes the four.

    Args:
        callback: the callback.
        queue: the name of its queue, for the error.

    Raises:
        TypeError: it can be called with neither, or is an async generator function.
    """
    function = _function_of(callback)
    if _is(inspect.isasyncgenfunction, function):
        raise TypeError(
            f"queue {queue!r}: callback {name_of(callback)} yields, so nothing would run it; an "
            f"`async def` callback takes {_FOUR} or one aio-pika message, and returns"
        )
    if getattr(callback, TAKES_DELIVERY, False) or inspect.isbuiltin(callback):
        return False
    is_async = _is(inspect.iscoroutinefunction, function)
    try:
        signature = inspect.signature(callback, follow_wrapped=False)
        if _takes_anything(signature) and hasattr(callback, "__wrapped__"):
            return bool(_takes_message(inspect.signature(callback), is_async))
    except (TypeError, ValueError):
        return False
    takes = _takes_message(signature, is_async)
    if takes is None:
        other = ", nor with one aio-pika message" if is_async else ""
        raise TypeError(
            f"queue {queue!r}: callback {name_of(callback)}{signature} cannot be called with "
            f"{_FOUR}{other}"
        )
    return takes


def _is(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether a function, or the ``__call__`` of an object, is of a kind."""
    if kind(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its method, whatever it is
    return not inspect.isroutine(function) and kind(call)


def _takes_message(signature: inspect.Signature, is_async: bool) -> bool | None:
    """Return what `takes_message` returns; None if it can be called with neither."""
    takes_four = _can_be_called(signature, 4)
    if not is_async:
        return False if takes_four else None
    parameters = signature.parameters.values()
    needed = sum(
        each.default is each.empty
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    )
    takes_one = _can_be_called(signature, 1)
    takes_more = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if takes_one and needed == 1 and not takes_more:
        return True
    if takes_four:
        return False
    return True if takes_one else None


def _can_be_called(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _takes_anything(signature: inspect.Signature) -> bool:
    return bool(signature.parameters) and all(
        each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        for each in signature.parameters.values()
    )
