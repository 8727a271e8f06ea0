"""The signature of a handler: what it takes, what it answers, and how it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import suppress
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from neon_mq_connector.aio.signatures import TAKES_DELIVERY
from neon_mq_connector.handlers.context import Context
from neon_mq_connector.handlers.models import EXPECTED, MessageType

_ITERATORS = (AsyncIterator, Iterator, AsyncGenerator, Generator, AsyncIterable, Iterable)
_FORM = "a handler takes self, one request and, if it wants one, a parameter named context"


class Types(NamedTuple):
    """The type that a handler takes, and that of its answer, or of each part of it."""

    request: MessageType
    answer: MessageType


class Signature:
    """The signature of a handler; the types are resolved at once, if that is possible already.

    Args:
        function: the function, as it stands in its class.

    Attributes:
        where: its name with that of its class, for messages.
        bound: how it is called on an instance.
        takes_context: whether it has a parameter for the `Context`.
        is_async: whether it is `async def`.
        in_parts: whether it answers in parts: it yields them.

    Raises:
        TypeError: it cannot be a handler.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not inspect.isfunction(function):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"handler {name} is not a method but a {type(function).__name__}; {_FORM}"
            )
        self.where = function.__qualname__
        if getattr(function, TAKES_DELIVERY, False):
            raise self._error("it is decorated with create_mq_callback, too; leave that out")
        self._function = function
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        self.bound = signature.replace(parameters=parameters[1:])
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.takes_context = len(parameters) == 3 and parameters[2].name == "context"
        if len(parameters) - self.takes_context != 2 or any(
            each.kind not in positional for each in parameters
        ):
            raise self._error(f"its parameters are {signature}; {_FORM}")
        self._request_name = parameters[1].name
        self.in_parts = is_generator(function)
        self.is_async = inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(
            function
        )
        with suppress(NameError):  # of a class that is defined further down
            _ = self.types

    @functools.cached_property
    def types(self) -> Types:
        """The types of the request and of the answer.

        Raises:
            TypeError: no message can be of that type.
            NameError: a name in an annotation means nothing yet.
        """
        hints = get_type_hints(self._function, include_extras=True)
        if self.takes_context and hints.get("context", Any) not in (Any, Context):
            raise self._error(f"its context is {hints['context']}; Context is expected")
        request = self._type("it takes", hints.get(self._request_name, Any))
        if request.is_none:
            raise self._error(f"it takes None; {EXPECTED} is expected")
        returned = hints.get("return", Any)
        if self.in_parts and returned is not Any:
            if get_origin(returned) not in _ITERATORS:
                name = _ITERATORS[0 if self.is_async else 1].__name__
                raise self._error(f"it yields, and returns {returned}; {name}[...] is expected")
            returned = get_args(returned)[0]
        elif get_origin(returned) in _ITERATORS:
            raise self._error(f"it returns {returned} and does not yield; a generator is expected")
        return Types(request, self._type("its answer is", returned))

    def prepare(self) -> Types:
        """Return the types, of which each is ready for messages.

        Raises:
            TypeError: one of them cannot be resolved or used.
        """
        try:
            types = self.types
        except NameError as error:
            raise self._error(
                f"its annotations cannot be resolved: {error}; what they name has to be imported "
                "in its module, or defined there"
            ) from error
        for each in (types.request, types.answer):
            try:
                _ = each.adapter  # or else the first message would wait for it
            except TypeError as error:
                raise self._error(str(error)) from error
        return types

    def _type(self, what: str, annotation: Any) -> MessageType:
        try:
            return MessageType(annotation)
        except TypeError as error:
            raise self._error(f"{what} {error}") from None

    def _error(self, text: str) -> TypeError:
        return TypeError(f"handler {self.where}: {text}")


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a function yields."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
