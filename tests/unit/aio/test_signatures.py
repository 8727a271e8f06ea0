"""What coroutine functions are called with, by their signature."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from neon_mq_connector import create_mq_callback
from neon_mq_connector.aio.signatures import is_coroutine_function, name_of, takes_message

DELIVERY, MESSAGE = False, True


async def four(channel: Any, method: Any, properties: Any, body: Any) -> None: ...
async def one(message: Any) -> None: ...
async def five(log: Any, channel: Any, method: Any, properties: Any, body: Any) -> None: ...
async def logged(message: Any, *, log: Any) -> None: ...
async def anything(*arguments: Any) -> None: ...
async def first_and_others(channel: Any, *others: Any) -> None: ...
async def message_and_options(message: Any, a: int = 1, b: int = 2, c: int = 3) -> None: ...
async def two_of_four(channel: Any, method: Any, properties: Any = 1, body: Any = 2) -> None: ...
async def positional(message: Any, /) -> None: ...


def decorated(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await callback(*args, **kwargs)

    return wrapper


def with_a_log(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Add an argument of its own, so that the signature of what it wraps says too much."""

    @functools.wraps(callback)
    async def wrapper(*args: Any) -> Any:
        return await callback("log", *args)

    return wrapper


class Service:
    async def four(self, channel: Any, method: Any, properties: Any, body: Any) -> None: ...

    async def one(self, message: Any) -> None: ...

    @decorated
    async def decorated_one(self, message: Any) -> None: ...


class Callback:
    async def __call__(self, message: Any) -> None: ...


@create_mq_callback
async def decoded(body: Any) -> None: ...


FORMS = {
    "four": (four, DELIVERY),
    "one": (one, MESSAGE),
    "a method with four": (Service().four, DELIVERY),
    "a method with one": (Service().one, MESSAGE),
    "an object that is called": (Callback(), MESSAGE),
    "a partial function that leaves four": (functools.partial(five, "log"), DELIVERY),
    "a partial function that leaves one": (functools.partial(logged, log=None), MESSAGE),
    "whatever it is given": (anything, DELIVERY),
    "the channel and whatever follows": (first_and_others, DELIVERY),
    "a message and options": (message_and_options, MESSAGE),
    "two, and two with defaults": (two_of_four, DELIVERY),
    "one that has no name outside": (positional, MESSAGE),
    "a decorated method with one": (Service().decorated_one, MESSAGE),
    "a decorator that adds an argument": (with_a_log(five), DELIVERY),
    "a decoded function of the body": (decoded, DELIVERY),
    "a mock": (AsyncMock(), DELIVERY),
}


@pytest.mark.parametrize("callback, is_message", FORMS.values(), ids=FORMS.keys())
def test_the_signature_says_what_a_callback_is_called_with(
    callback: Callable[..., Any], is_message: bool
) -> None:
    assert is_coroutine_function(callback)
    assert takes_message(callback, "q") is is_message


async def generator(message: Any) -> Any:
    yield message


class Generator:
    async def __call__(self, message: Any) -> Any:
        yield message


@pytest.mark.parametrize("callback", [generator, functools.partial(generator), Generator()])
def test_a_generator_is_no_coroutine_function_and_is_refused(callback: Callable[..., Any]) -> None:
    assert not is_coroutine_function(callback)
    with pytest.raises(TypeError, match=r"queue 'q': callback .* yields"):
        takes_message(callback, "q")


def test_callbacks_are_called_what_they_were_defined_as() -> None:
    assert name_of(functools.partial(five, "log")) == "five"
    assert name_of(Service().one) == "Service.one"
    assert "Callback object" in name_of(Callback())
