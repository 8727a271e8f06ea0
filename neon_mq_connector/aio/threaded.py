"""The threaded connector inside of an `AsyncMQConnector`, and what is delegated to it.

It has the connections, the consumers and their supervision.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.signatures import is_coroutine_function, name_of
from neon_mq_connector.connector import MQConnector
from neon_mq_connector.link import Outage, outage_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ThreadedConnector(MQConnector):
    """What an `AsyncMQConnector` delegates to; its callbacks run on the loop of that.

    The first arguments are those of `MQConnector`, the last the key of the service's configurable
    properties.
    """

    # what is protected in services, for the connector that delegates
    connections_to = MQConnector._connections
    client_of = MQConnector._client
    options = MQConnector._asking
    reach_broker = MQConnector._reach_broker
    refusal = MQConnector._refusal
    sending = MQConnector._sending

    def __init__(
        self, config: Mapping[str, Any] | None, service_name: str, property_key: str
    ) -> None:
        self.property_key = property_key
        self._callers_loop = CoroutineLoop()
        super().__init__(config, service_name)

    def _coroutine_loop(self) -> CoroutineLoop:
        return self.current_loop()

    def current_loop(self) -> CoroutineLoop:
        """Return the loop of coroutines; when the connector was stopped, that of the next run."""
        if self._callers_loop.has_ended:
            self._callers_loop = CoroutineLoop()
        return self._callers_loop

    def begin(self, names: tuple[str, ...] | None) -> None:
        """Begin to run, and start consumers.

        Args:
            names: which; empty for all, None for none.
        """
        if self._begin_running() and names is not None:
            self.run_consumers(names=names)
            if self._mq_stop_waiting.is_set():
                self.stop()  # once more, for what has started after the first

    def register(
        self, method: Callable[..., None], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        """Register a consumer whose callback, and error handler, are called on the loop.

        Args:
            method: registers it.
            arguments: of the method.
            options: its keyword arguments.
        """
        bound = inspect.signature(method).bind(self, *arguments, **options)
        given = bound.arguments
        name, callback = given["name"], given["callback"]
        if not is_coroutine_function(callback):
            raise TypeError(
                f"consumer {name!r}: {name_of(callback)} is no coroutine function; write `async "
                "def`, or use an MQConnector, which runs functions on threads"
            )
        consumer = self.consumers.get(name)
        if consumer is not None and consumer.is_alive() and not given.get("skip_on_existing"):
            raise ValueError(
                f"consumer {name!r} is running: await stop_consumers([{name!r}]) before another of "
                "that name is registered"
            )
        given["on_error"] = _on_the_loop(name, given.get("on_error"))
        method(*bound.args, **bound.kwargs)

    @property
    def outage(self) -> Outage:
        """What the log tells of outages of the service's virtual host."""
        return outage_of(self._all_parameters(self.vhost))

    @property
    def stop_budget(self) -> float:
        """How long `stop` may take, in seconds."""
        return self._stop_timeout()


class ReadOnly(Generic[T]):
    """An attribute of the threaded connector, under the same name."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, connector: Any, _owner: type) -> T:
        value: Any = self if connector is None else getattr(connector._threaded, self._name)
        return cast("T", value)


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


def _on_the_loop(name: str, on_error: Callable[..., object] | None) -> Any:
    """Make a coroutine function of an error handler, which is called on the loop then."""
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
