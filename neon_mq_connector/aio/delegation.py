"""What `AsyncMQConnector` has from the threaded connector inside: attributes and signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from neon_mq_connector.aio.signatures import is_coroutine_function, name_of
from neon_mq_connector.aio.threaded import ThreadedConnector

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ReadOnly(Generic[T]):
    """An attribute of the threaded connector, under the same name."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, connector: Any, _owner: type) -> T:
        value: T = getattr(self if connector is None else connector._threaded, self._name)
        return value


class Settable(ReadOnly[T]):
    """One that may be set."""

    def __set__(self, connector: Any, value: T) -> None:
        setattr(connector._threaded, self._name, value)


def takes_arguments_of(
    method: Callable[Concatenate[Any, P], object],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Give a method of any arguments the signature of another, for type checkers and `help`."""

    def decorate(function: Callable[..., R]) -> Callable[Concatenate[Any, P], R]:
        function.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
        return function

    return decorate


def register(
    threaded: ThreadedConnector,
    method: Callable[..., None],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    """Register a consumer whose callback, and error handler, are called on the loop.

    Args:
        threaded: the connector that has the consumers.
        method: of it, that registers.
        arguments: of the method.
        options: its keyword arguments.
    """
    bound = inspect.signature(method).bind(threaded, *arguments, **options)
    given = bound.arguments
    name, callback = given["name"], given["callback"]
    if not is_coroutine_function(callback):
        raise TypeError(
            f"consumer {name!r}: {name_of(callback)} is no coroutine function; write `async "
            "def`, or use an MQConnector, which runs functions on threads"
        )
    consumer = threaded.consumers.get(name)
    if consumer is not None and consumer.is_alive() and not given.get("skip_on_existing"):
        raise ValueError(
            f"consumer {name!r} is running: await stop_consumers([{name!r}]) before another of "
            "that name is registered"
        )
    given["on_error"] = _on_the_loop(name, given.get("on_error"))
    method(*bound.args, **bound.kwargs)


def _on_the_loop(name: str, on_error: Callable[..., object] | None) -> Any:
    """Make a coroutine function of an error handler: those are called on the loop.

    Raises:
        TypeError: it yields, so that calling it would do nothing.
    """
    if on_error is None or is_coroutine_function(on_error):
        return on_error
    if inspect.isgeneratorfunction(on_error) or inspect.isasyncgenfunction(on_error):
        raise TypeError(
            f"consumer {name!r}: on_error {name_of(on_error)} yields, so calling it does nothing; "
            "it is a function or a coroutine function"
        )

    @functools.wraps(on_error)
    async def on_error_on_the_loop(thread: Any, error: BaseException) -> None:
        result = on_error(thread, error)
        if inspect.isawaitable(result):
            await result

    return on_error_on_the_loop
