"""Clients that nobody here wrote use the embedded broker as they use RabbitMQ."""

from __future__ import annotations

import asyncio

import pytest

from neon_mq_connector.testing import EmbeddedBroker


def test_aio_pika_with_its_rpc_pattern(embedded: EmbeddedBroker) -> None:
    aio_pika = pytest.importorskip("aio_pika")
    patterns = pytest.importorskip("aio_pika.patterns")

    async def use() -> tuple[list[int], bytes]:
        async with await aio_pika.connect_robust(embedded.url()) as connection:
            channel = await connection.channel()
            rpc = await patterns.RPC.create(channel)

            async def multiply(*, x: int, y: int) -> int:
                return x * y

            await rpc.register("multiply", multiply, auto_delete=True)
            products = [await rpc.proxy.multiply(x=3, y=y) for y in range(4)]

            exchange = await channel.declare_exchange("news", aio_pika.ExchangeType.TOPIC)
            queue = await channel.declare_queue("", exclusive=True)
            await queue.bind(exchange, "a.#")
            message = aio_pika.Message(b"hello", headers={"float": 1.5, "none": None})
            await exchange.publish(message, "a.b.c")
            received = await queue.get(timeout=120)
            await received.ack()
            assert received.headers == {"float": 1.5, "none": None}
            strict = await connection.channel(on_return_raises=True)
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await strict.default_exchange.publish(message, "nowhere")
            return products, received.body

    assert asyncio.run(use()) == ([0, 3, 6, 9], b"hello")


def test_amqpstorm(embedded: EmbeddedBroker) -> None:
    amqpstorm = pytest.importorskip("amqpstorm")
    with amqpstorm.UriConnection(embedded.url()) as connection, connection.channel() as channel:
        channel.confirm_deliveries()
        channel.queue.declare("work")
        channel.basic.qos(10)
        text = "hello" * 100_000  # in frames that it makes a little too large
        message = amqpstorm.Message.create(channel, text, {"headers": {"a": 1}})
        assert message.publish("work", mandatory=True)
        received = channel.basic.get("work")
        received.ack()
        assert (received.body, received.properties["headers"]) == (text, {"a": 1})
        with pytest.raises(amqpstorm.AMQPChannelError, match="no queue 'none'"):
            channel.queue.declare("none", passive=True)
