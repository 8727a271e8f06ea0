"""The three tasks with FastStream, on aio-pika."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

from faststream import AckPolicy, Header
from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel

PRICES = {"tea": 3.5}
NEWS = RabbitExchange("compared_news", type=ExchangeType.FANOUT)
DEAD = RabbitExchange("compared_dead", type=ExchangeType.FANOUT)
JOBS = RabbitQueue(
    "compared_jobs",
    queue_type=QueueType.QUORUM,
    durable=True,
    arguments={"x-delivery-limit": 2, "x-dead-letter-exchange": "compared_dead"},
)
broker = RabbitBroker(os.environ["NEON_MQ_URL"], logger=None)
died = asyncio.Event()


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


class Job(BaseModel):
    """What a worker does."""

    number: int


@broker.subscriber("compared_price")
async def price(item: Item) -> dict[str, Any]:
    """Answer. An exception answers nothing: errors are part of the model, or a time-out."""
    if item.name not in PRICES:
        return {"error": f"no {item.name}"}
    return {"price": PRICES[item.name] * item.count}


@broker.subscriber(JOBS, ack_policy=AckPolicy.NACK_ON_ERROR)
async def work(job: Job, count: Annotated[int, Header("x-delivery-count", default=0)]) -> None:
    """Work. The broker counts the tries, repeats at once, and dead-letters at its limit."""
    if job.number == 2 or count < 2:
        raise ConnectionError("not yet")
    print(f"job 1 done after {count + 1} tries", flush=True)


@broker.subscriber(RabbitQueue("compared_jobs.dead", durable=True), DEAD)
async def on_dead(job: Job) -> None:
    """See what has failed for the last time."""
    print(f"job {job.number} is dead", flush=True)
    died.set()


def read(reader: str) -> None:
    """Subscribe a reader."""

    @broker.subscriber(RabbitQueue(f"compared_{reader}", auto_delete=True), NEWS)
    async def on_news(news: dict[str, str]) -> None:
        print(f"{reader} reads: {news['headline']}", flush=True)


async def main() -> None:
    """Start the service, and be its client."""
    for reader in ("alice", "bob"):
        read(reader)
    async with broker:
        await broker.start()
        reply = await broker.request(Item(name="tea", count=2), "compared_price", timeout=10)
        print("price", (await reply.decode())["price"])
        reply = await broker.request(Item(name="coffee", count=1), "compared_price", timeout=10)
        print("error", (await reply.decode())["error"])
        for number in (1, 2):
            await broker.publish(Job(number=number), "compared_jobs")
        await broker.publish({"headline": "open"}, exchange=NEWS)
        await asyncio.wait_for(died.wait(), 10)
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main())
