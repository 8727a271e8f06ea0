"""Which callbacks are coroutine functions, and what they are called with."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any

from neon_mq_connector.threads import guard

_ARGUMENTS = 4
#: Set to True on a callback that has to be called with all four, whatever its signature looks like.
TAKES_DELIVERY = "_neon_takes_delivery"


class Form(enum.Enum):
    """What a callback is called with: pika's four arguments, or an aio-pika message."""

    DELIVERY = "(channel, method, properties, body)"
    MESSAGE = "(message)"


def _function_of(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a partial function, or a static method that is not bound yet, is made of."""
    while True:
        if isinstance(callback, functools.partial):
            callback = callback.func
        elif isinstance(callback, staticmethod):
            callback = callback.__func__
        else:
            return callback


def is_coroutine_function(callback: Callable[..., Any]) -> bool:
    """Whether calling something returns a coroutine, as far as can be known before.

    Methods, partial functions and objects whose ``__call__`` is `async def` are looked into. A
    function that only returns what another has made is not known to.
    """
    return _is(inspect.iscoroutinefunction, _function_of(callback))


def name_of(callback: Callable[..., Any]) -> str:
    """Return the name by which messages speak of a callback."""
    return guard.name_of(_function_of(callback))


def form_of(callback: Callable[..., Any], queue: str) -> Form:
    """Return what a coroutine function takes, by its signature.

    One parameter without a default means a message, four mean the four arguments. Parameters with a
    default do not count, unless the four arguments would not fit without them. ``*args`` takes the
    four. A decorator's ``(*args, **kwargs)`` is looked through.

    Args:
        callback: the coroutine function.
        queue: the name of its queue, for the error.

    Returns:
        Which of the two.

    Raises:
        TypeError: neither of them.
    """
    if getattr(callback, TAKES_DELIVERY, False):
        return Form.DELIVERY
    try:
        signature = inspect.signature(callback, follow_wrapped=False)
        if _takes_anything(signature) and hasattr(callback, "__wrapped__"):
            through = _form(inspect.signature(callback))
            return through or Form.DELIVERY
    except (TypeError, ValueError):  # written in C, as a rule
        return Form.DELIVERY
    form = _form(signature)
    if form is None:
        raise TypeError(
            f"queue {queue!r}: callback {name_of(callback)}{signature} can be called neither with "
            f"{Form.DELIVERY.value} nor with one aio-pika message; an `async def` callback takes "
            "one or the other"
        )
    return form


def refuse_generator(callback: Callable[..., Any], queue: str) -> None:
    """Raise `TypeError` if a callback is `async def` and yields, which no callback may."""
    if _is(inspect.isasyncgenfunction, _function_of(callback)):
        raise TypeError(
            f"queue {queue!r}: callback {name_of(callback)} yields, so nothing would run it; an "
            f"`async def` callback takes {Form.DELIVERY.value} or one aio-pika message, and returns"
        )


def refuse_other_arguments(callback: Callable[..., Any], queue: str) -> None:
    """Raise `TypeError` if a callback that is a function cannot be called with four arguments.

    Builtin functions are taken, as they always were: what is registered need not come to a call.
    """
    if inspect.isbuiltin(callback):
        return
    try:
        signature = inspect.signature(callback, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C, as a rule
        return
    if not _can_be_called(signature, _ARGUMENTS):
        raise TypeError(
            f"queue {queue!r}: callback {name_of(callback)}{signature} cannot be called with "
            f"{Form.DELIVERY.value}"
        )


def _is(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether a function, or the ``__call__`` of an object, is of a kind."""
    if kind(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its method, whatever it is
    return not inspect.isroutine(function) and kind(call)


def _form(signature: inspect.Signature) -> Form | None:
    parameters = signature.parameters.values()
    needed = sum(
        each.default is each.empty
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    )
    takes_four = _can_be_called(signature, _ARGUMENTS)
    takes_one = _can_be_called(signature, 1)
    takes_more = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if takes_one and needed == 1 and not takes_more:
        return Form.MESSAGE
    if takes_four:
        return Form.DELIVERY
    return Form.MESSAGE if takes_one else None


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
