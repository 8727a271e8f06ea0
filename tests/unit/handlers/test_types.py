"""What type checkers infer of handlers: mypy reads this file when all code is checked.

A line that mypy has to refuse says so; one that it does not refuse any more would be an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

from typing_extensions import assert_type

from neon_mq_connector import AsyncMQConnector, Context, MQConnector, create_mq_callback
from neon_mq_connector.aio.requests import AsyncReplyStream
from neon_mq_connector.client import ReplyStream
from tests.unit.handlers.shop import Item, Part, Price, Shop, Upto


def ask(client: MQConnector, shop: Shop) -> None:
    """Ask in each way that there is."""
    item, upto = Item(name="tea"), Upto(n=3)
    assert_type(client.request(item, Shop.price), Price)
    assert_type(client.request(item, Shop.slow), Price)
    assert_type(client.request({"text": "hello"}, Shop.echo), dict[str, Any])
    assert_type(client.request({"text": "hello"}, "echo_input"), dict[str, Any])
    assert_type(client.submit_request(item, shop.price), Future[Price])
    assert_type(client.stream(upto, Shop.parts.at(service_name="shop")), ReplyStream[Part])
    for part in client.stream(upto, Shop.slow_parts):
        assert_type(part, Part)

    client.request(upto, Shop.price)  # type: ignore[misc]
    client.request(upto, Shop.parts)  # type: ignore[call-overload]
    client.request(item, Shop.on_news)  # type: ignore[call-overload]
    client.submit_request(upto, Shop.price)  # type: ignore[misc]
    client.stream(item, Shop.parts)  # type: ignore[misc]
    client.stream(item, Shop.price)  # type: ignore[arg-type]


async def ask_and_await(client: AsyncMQConnector) -> None:
    """Ask and await in each way that there is."""
    assert_type(await client.request(Item(name="tea"), Shop.price), Price)
    assert_type(client.stream(Upto(n=3), Shop.slow_parts), AsyncReplyStream[Part])
    async for part in client.stream(Upto(n=3), Shop.parts):
        assert_type(part, Part)

    await client.request(Upto(n=3), Shop.price)  # type: ignore[misc]


def call(shop: Shop) -> None:
    """Call handlers as methods."""
    assert_type(shop.price(Item(name="tea")), Price)
    assert_type(shop.parts(Upto(n=3)), Iterator[Part])
    awaited = assert_type(shop.slow(Item(name="tea"), Context()), Coroutine[Any, Any, Price])
    awaited.close()

    shop.price(Upto(n=3))  # type: ignore[arg-type]
    _ = shop.slow(Item(name="tea"))  # type: ignore[call-arg]


class Decorated(MQConnector):
    """A callback of earlier releases keeps the type of what it returns."""

    @create_mq_callback()
    def double(self, body: dict[str, Any]) -> dict[str, int]:
        return {"double": 2 * body["n"]}


def test_a_handler_is_called_on_its_connector_as_any_method_is() -> None:
    shop = Shop(None, "shop")
    shop.news = []
    assert shop.price(Item(name="tea")).amount == 3
    assert list(shop.parts(Upto(n=2))) == [{"n": 0}, {"n": 1}]
    assert asyncio.run(shop.slow(Item(name="tea"), Context(attempt=2))).amount == 2
    shop.on_news(Item(name="new"))
    assert shop.news == ["new"]
    doubled = assert_type(Decorated(None, "d").double(None, None, None, {"n": 1}), dict[str, int])
    assert doubled == {"double": 2}
