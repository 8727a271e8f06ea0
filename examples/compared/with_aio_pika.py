"""The three tasks with aio-pika, whose `patterns.RPC` carries requests."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from typing import Any

import aio_pika
from aio_pika.patterns import RPC
from pydantic import BaseModel

PRICES = {"tea": 3.5}


class Item(BaseModel):
    """What a request asks for."""

    name: str
    count: int


async def price(**request: Any) -> float:
    """Answer. Requests and answers, errors too, are pickled: a sender can run code here."""
    item = Item.model_validate(request)
    return PRICES[item.name] * item.count


async def work(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """Work. The broker counts the tries, repeats at once, and dead-letters at its limit."""
    tries = int(str(message.headers.get("x-delivery-count", 0))) + 1
    async with message.process(requeue=True):
        if json.loads(message.body)["number"] == 2 or tries < 3:
            raise ConnectionError("not yet")
        print(f"job 1 done after {tries} tries", flush=True)


async def on_news(reader: str, message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """Read news."""
    print(f"{reader} reads: {json.loads(message.body)['headline']}", flush=True)


async def serve(connection: aio_pika.abc.AbstractConnection) -> None:
    """Consume all queues; the connection and what it has declared come back by themselves."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=50)
    rpc = await RPC.create(channel)
    await rpc.register("compared_price", price, auto_delete=True)
    dead = await channel.declare_exchange("compared_dead", aio_pika.ExchangeType.FANOUT)
    dead_queue = await channel.declare_queue("compared_jobs.dead", durable=True)
    await dead_queue.bind(dead)
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "compared_dead",
    }
    jobs = await channel.declare_queue("compared_jobs", durable=True, arguments=arguments)
    await jobs.consume(work)
    news = await channel.declare_exchange("compared_news", aio_pika.ExchangeType.FANOUT)
    for reader in ("alice", "bob"):
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(news)
        await queue.consume(functools.partial(on_news, reader), no_ack=True)


def message_of(content: dict[str, Any]) -> aio_pika.Message:
    """Encode a dict."""
    return aio_pika.Message(json.dumps(content).encode())


async def main() -> None:
    """Start the service, and be its client."""
    url = os.environ["NEON_MQ_URL"]
    async with await aio_pika.connect_robust(url) as server:
        await serve(server)
        async with await aio_pika.connect_robust(url) as connection:
            channel = await connection.channel()
            rpc = await RPC.create(channel)
            arguments: dict[str, Any] = {"name": "tea", "count": 2}
            print("price", await rpc.call("compared_price", kwargs=arguments))
            try:
                await rpc.call("compared_price", kwargs={"name": "coffee", "count": 1})
            except KeyError as error:
                print("error", repr(error))
            for number in (1, 2):
                job = message_of({"number": number})
                await channel.default_exchange.publish(job, "compared_jobs")
            news = await channel.get_exchange("compared_news")
            await news.publish(message_of({"headline": "open"}), "")
            dead = await channel.get_queue("compared_jobs.dead")
            async with dead.iterator(timeout=10, no_ack=True) as messages:
                async for message in messages:
                    print(f"job {json.loads(message.body)['number']} is dead")
                    break


if __name__ == "__main__":
    asyncio.run(main())
