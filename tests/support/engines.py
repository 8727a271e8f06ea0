"""The engines: what can run a consumer."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import MQConnector
from neon_mq_connector.aio.futures import Operation
from neon_mq_connector.aio.signatures import is_coroutine_function
from neon_mq_connector.consumers import SelectConsumerThread

#: What a registration has to say to be served by each of them.
ENGINES: dict[str, dict[str, Any]] = {
    "threaded": {"async_consumer": False},
    "select": {"async_consumer": True},
    "aio": {},
}


def engines_of(metafunc: pytest.Metafunc) -> tuple[str, ...]:
    """Return the engines that a test is run for.

    A select consumer is a threaded one with hooks, which hears otherwise of outages: the two have
    all else in common, and one is enough. Services of earlier releases register no coroutines.
    """
    marked = metafunc.definition.get_closest_marker
    engines = ["threaded"]
    if marked("every_engine"):
        engines.append("select")
    if not marked("one_engine") and not metafunc.module.__name__.startswith("tests.contract."):
        engines.append("aio")
    return tuple(engines)


def use_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have an engine serve a test's registrations, and return the arguments to pass on."""
    if name == "aio":
        for method in ("register_consumer", "register_subscriber"):
            register = _with_coroutines(getattr(MQConnector, method))
            monkeypatch.setattr(MQConnector, method, register)
    return dict(ENGINES[name])


def tell_at_once(thread: Any) -> None:
    """Have an outage told when it begins, also where that takes a number of failed attempts."""
    if isinstance(thread, SelectConsumerThread):
        thread.max_connection_failed_attempts = 0


def as_coroutine_function(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Make a coroutine function of a callback, which may block: it is called on a thread."""

    @functools.wraps(callback)
    async def coroutine(channel: Any, method: Any, properties: Any, body: bytes) -> Any:
        blocking = BlockingFace(channel, asyncio.get_running_loop())
        return await call_in_thread(callback, blocking, method, properties, body)

    return coroutine


async def call_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on a thread that keeps no process alive, and await what it returns."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return await future


class BlockingFace:
    """A coroutine's channel, or its connection, for a function: what is awaited is waited for.

    A publish is not: it is to be confirmed before an ack leaves, awaited or not.
    """

    def __init__(self, face: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._face = face
        self._loop = loop
        self._confirming = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._face, name)
        if name == "connection":
            return BlockingFace(value, self._loop)
        if not callable(value):
            return value
        return functools.partial(self._call, name, value)

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name == "confirm_delivery":
            self._confirming = True
        result = method(*args, **kwargs)
        if name == "channel":
            return BlockingFace(result, self._loop)
        if not isinstance(result, Operation):
            return None if hasattr(result, "__await__") else result
        if name == "basic_publish" and not self._confirming:
            exchange = kwargs.get("exchange", args[0] if args else "")
            if not exchange:  # or else it is looked up at once, and may be refused
                return None

        async def wait() -> Any:
            return await result

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(120.0)


def _with_coroutines(register: Callable[..., None]) -> Callable[..., None]:
    """Have functions registered as coroutine functions, which run one after another as they do."""
    signature = inspect.signature(register)

    @functools.wraps(register)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        if not is_coroutine_function(given["callback"]):
            given["callback"] = as_coroutine_function(given["callback"])
            given.setdefault("concurrency", 1)
        register(*bound.args, **bound.kwargs)

    return wrapper
