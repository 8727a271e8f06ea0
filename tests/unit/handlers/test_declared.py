"""What can be declared, what cannot, and what is said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial, wraps
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import RootModel

from neon_mq_connector import (
    AsyncMQConnector,
    MQConnector,
    consumer,
    create_mq_callback,
    subscriber,
)
from neon_mq_connector.handlers.registering import declared_in, register_handlers
from tests.unit.handlers.shop import Item, Price, Shop, Upto

CONFIG = {"users": {"shop": {"user": "u", "password": "p"}}}


class Texts(RootModel[list[str]]):
    """A model of something that is no dict."""


def _without_types(self: Any, item: Any) -> Any: ...
def _with_more(self: Any, item: Item, more: int) -> None: ...
def _with_another_context(self: Any, item: Item, context: Item) -> None: ...
def _returns_an_iterator(self: Any, item: Item) -> Iterator[Item]: ...  # type: ignore[empty-body]
def _by_keyword(self: Any, *, item: Item) -> None: ...
def _takes_a_list(self: Any, items: list[Item]) -> None: ...
def _takes_none(self: Any, item: None) -> None: ...
def _answers_a_text(self: Any, item: Item) -> str: ...  # type: ignore[empty-body]
def _answers_a_list(self: Any, item: Item) -> Texts: ...  # type: ignore[empty-body]
def _answers_either(self: Any, item: Item) -> Price | int: ...  # type: ignore[empty-body]
async def _answers_a_number(self: Any, item: Item) -> int: ...  # type: ignore[empty-body]


def _yields_texts(self: Any, item: Item) -> Iterator[str]:
    yield item.name


@pytest.mark.parametrize(
    "function, complaint",
    [
        (_with_more, "takes self, one request"),
        (_by_keyword, "takes self, one request"),
        (staticmethod(_takes_none), "is not a method but a staticmethod"),
        (Shop.price, "is not a method but a Handler"),
        (create_mq_callback(_answers_a_list), "with create_mq_callback, too"),
        (_with_another_context, "Context is expected"),
        (_returns_an_iterator, "a generator is expected"),
        (_takes_a_list, "it takes list"),
        (_takes_none, "it takes None"),
        (_answers_a_text, "its answer is str; a pydantic model with fields, a data"),
        (_answers_a_list, "its answer is Texts"),
        (_answers_either, "its answer is int"),
        (_answers_a_number, "its answer is int"),
        (_yields_texts, "its answer is str"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_when_its_class_is_made(
    function: Any, complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint) as refused:
        consumer("queue")(function)
    assert getattr(function, "__qualname__", "") in str(refused.value)


def test_a_decorator_without_its_parentheses_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(TypeError, match="write @consumer"):
        consumer(_takes_none)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no such option: durabel"):
        consumer("queue", durabel=True)(Shop.price.function)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no such option: durable"):
        subscriber("news", durable=True)(Shop.on_news.function)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Shop.price: a handler cannot acknowledge"):
        consumer("queue", ack="manual")(Shop.price.function)
    with pytest.raises(TypeError, match=r"Shop.price: '{oops': expected '}'"):
        consumer("{oops")(Shop.price.function)


def test_a_name_that_means_nothing_is_told_when_the_handler_is_registered() -> None:
    class Local(MQConnector):
        @consumer("queue")
        def handle(self, item: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match=r"Local.handle: its annotations .*'Missing'"):
        register_handlers(Local(CONFIG, "shop"))


def test_placeholders_are_attributes_of_the_connector() -> None:
    shop = Shop(CONFIG, "shop")
    register_handlers(shop)
    assert shop.consumers["parts"].queue == shop.parts.queue == "shop_parts_input"
    assert Shop.parts.at(service_name="other").queue == "other_parts_input"
    with pytest.raises(ValueError, match=r"Shop.parts: the placeholder 'service_name' .* is open"):
        _ = Shop.parts.queue
    with pytest.raises(ValueError, match="is open"):
        shop.stream(Upto(n=1), Shop.parts)
    with pytest.raises(TypeError, match="on an instance"):
        Shop.price(Item(name="tea"))


def test_a_handler_is_acknowledged_on_success_unless_it_says_otherwise() -> None:
    class Hasty(Shop):
        @consumer("hasty", auto_ack=True)
        def hasty(self, data: dict[str, Any]) -> None: ...
        @consumer("careful", auto_ack=False)
        def careful(self, data: dict[str, Any]) -> None: ...

    shop = Hasty(CONFIG, "shop")
    register_handlers(shop)
    assert not shop.consumers["price"].auto_ack
    assert shop.consumers["hasty"].auto_ack
    assert not shop.consumers["careful"].auto_ack
    assert shop.consumers["on_news"].exchange == "news"


def test_handlers_are_inherited_and_overridden_and_taken_away() -> None:
    class Other(Shop):
        price = None  # type: ignore[assignment]

        @consumer("other_echo_input")
        def echo(self, data: dict[str, Any]) -> dict[str, Any]:
            return {"other": True}

    names = declared_in(Shop).keys()
    assert declared_in(Other).keys() == names - {"price"}
    shop = Other(CONFIG, "shop")
    own: Callable[..., None] = Mock()
    shop.register_consumer("slow", shop.vhost, "my_own", own)
    register_handlers(shop)
    assert shop.consumers["echo"].queue == "other_echo_input"
    assert shop.consumers["slow"].callback_func is own


def test_a_plain_method_in_the_place_of_a_handler_is_refused() -> None:
    class Careless(Shop):
        def echo(self, data: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
            return data

    with pytest.raises(TypeError, match=r"Careless.echo overrides the handler Shop.echo"):
        register_handlers(Careless(CONFIG, "shop"))


def _wrapped(handler: Any) -> Any:
    return wraps(handler)(lambda *_: None)


@pytest.mark.parametrize(
    "members, complaint",
    [
        ({"stop": Shop.price}, "Shop.price: a connector needs its own 'stop'"),
        ({"around": _wrapped(Shop.price)}, "Bad.around is decorated around its handler"),
        ({"more": consumer("price_input")(_without_types)}, "consume the same queue"),
    ],
)
def test_what_would_not_be_called_as_it_seems_is_refused(
    members: dict[str, Any], complaint: str
) -> None:
    bad: Any = type("Bad", (Shop,), members)
    with pytest.raises(TypeError, match=complaint):
        register_handlers(bad(CONFIG, "shop"))


def test_an_asyncio_connector_has_coroutines_alone() -> None:
    class Waiting(AsyncMQConnector):
        @consumer("slow")
        async def slow(self, item: Item) -> Price:
            return Price(amount=1)

        @consumer("parts")
        async def parts(self, item: Item) -> AsyncIterator[Price]:
            yield Price(amount=1)

    class Blocking(AsyncMQConnector):
        @consumer("quick")
        def quick(self, item: Item) -> Price:
            return Price(amount=1)

    waiting = Waiting(CONFIG, "shop")
    register_handlers(waiting)
    assert waiting.consumers.keys() == {"slow", "parts"}
    with pytest.raises(TypeError, match=r"Blocking.quick is no coroutine function"):
        register_handlers(Blocking(CONFIG, "shop"))


class _Callable:
    def __call__(self, *args: Any) -> None: ...


def _four(channel: Any, method: Any, properties: Any, body: Any) -> None: ...
def _five(first: Any, channel: Any, method: Any, properties: Any, body: Any) -> None: ...
def _three(channel: Any, method: Any, body: Any) -> None: ...
def _keyword_only(channel: Any, method: Any, properties: Any, body: Any, *, more: Any) -> None: ...


@pytest.mark.parametrize(
    "callback",
    [_four, partial(_five, 1), Mock(), _Callable(), lambda *args: None, dict, repr],
)
def test_a_callback_that_can_be_called_with_a_delivery_is_taken(callback: Any) -> None:
    connector = MQConnector(CONFIG, "shop")
    connector.register_consumer("odd", "/", "queue", callback)


@pytest.mark.parametrize(
    "callback", [_three, _five, _keyword_only, Shop(CONFIG, "shop").price, lambda: None]
)
def test_a_callback_that_cannot_is_refused_when_it_is_registered(callback: Any) -> None:
    connector = MQConnector(CONFIG, "shop")
    with pytest.raises(TypeError, match=r"queue 'queue': callback .* cannot be called with"):
        connector.register_consumer("odd", "/", "queue", callback)


def test_a_request_of_another_type_is_refused_where_it_is_made() -> None:
    shop: Any = Shop(CONFIG, "shop")
    with pytest.raises(TypeError, match=r"a request to Shop.price: Item is declared"):
        shop.request(Upto(n=1), Shop.price)
    with pytest.raises(TypeError, match="cannot be asked so"):
        shop.request(Upto(n=1), shop.parts)
    with pytest.raises(TypeError, match="cannot be asked so"):
        shop.stream(Item(name="tea"), Shop.price)
