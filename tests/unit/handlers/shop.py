"""A service as users write it, with each kind of handler; mypy checks it with all else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from neon_mq_connector import Context, MQConnector, Retry, consumer, subscriber


class Item(BaseModel):
    """A model that takes nothing but what it declares."""

    model_config = ConfigDict(extra="forbid")
    name: str


class Price(BaseModel):
    amount: float


@dataclass
class Upto:
    n: int


class Part(TypedDict):
    n: int


class Shop(MQConnector):
    """Handlers of each kind."""

    news: list[str]

    @consumer("price_input", concurrency=2, retry=Retry(attempts=2))
    def price(self, item: Item) -> Price:
        return Price(amount=len(item.name))

    @consumer("slow_input")
    async def slow(self, item: Item, context: Context) -> Price:
        return Price(amount=context.attempt)

    @consumer("{service_name}_parts_input")
    def parts(self, upto: Upto) -> Iterator[Part]:
        for n in range(upto.n):
            yield {"n": n}

    @consumer("slow_parts_input")
    async def slow_parts(self, upto: Upto) -> AsyncIterator[Part]:
        for n in range(upto.n):
            yield {"n": n}

    @consumer("echo_input")
    def echo(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"got": data["text"]}

    @subscriber("news")
    def on_news(self, item: Item) -> None:
        self.news.append(item.name)
