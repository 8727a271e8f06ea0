"""Requests that coroutines await."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.aio.binding import requests_by
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.client import RequestClient
from neon_mq_connector.errors import (
    BrokerUnreachableError,
    DecodeError,
    MQError,
    RequestLostError,
    RequestTimeoutError,
    StoppedError,
)
from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.contract.peer import OldStyleService
from tests.integration.conftest import (
    Asked,
    MakeConnector,
    count_like_old_services,
    drop_connections,
    messages_in,
    parts_of,
    run,
    square_like_old_services,
)
from tests.support.loops import ON_BOTH_LOOPS, Heartbeat, LoopRunner, eventually_true
from tests.support.nodes import free_port

StartOldService = Callable[..., OldStyleService]


async def squares(face: AsyncRequests, count: int, **options: Any) -> list[int]:
    options.setdefault("timeout", 20.0)
    answers = await asyncio.gather(
        *(face.request("square", {"n": n}, **options) for n in range(count))
    )
    return [answer["square"] for answer in answers]


@ON_BOTH_LOOPS
def test_each_of_1000_requests_in_flight_gets_its_own_answer(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        asked.may_answer.clear()
        face = requests_by(client)
        asyncio.get_running_loop().call_later(0.3, asked.may_answer.set)
        assert await squares(face, 1000) == [n**2 for n in range(1000)]

    arun(main())
    assert client.late_replies == 0


@pytest.mark.every_broker
def test_services_of_the_old_style_answer(
    old_service: StartOldService, client: RequestClient, arun: LoopRunner
) -> None:
    old_service("square", square_like_old_services)

    async def main() -> None:
        assert await squares(requests_by(client), 100) == [n**2 for n in range(100)]

    arun(main())


def test_the_first_request_opens_the_connection_without_holding_up_the_loop(
    connection_params: pika.ConnectionParameters, arun: LoopRunner
) -> None:
    async def main() -> None:
        other = RequestClient([connection_params], owner="tests")
        face = requests_by(other)
        async with Heartbeat() as heartbeat:
            asking = [face.request("square", {"n": n}, timeout=0.5) for n in range(50)]
            errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(error) for error in errors} == {RequestTimeoutError}
        assert "not sent" in str(errors[0])
        assert heartbeat.beats > 5
        await asyncio.to_thread(other.close)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection_params.port = silent.getsockname()[1]
        arun(main())


def test_without_a_broker_each_request_says_so(
    connection_params: pika.ConnectionParameters, arun: LoopRunner
) -> None:
    connection_params.port = free_port()

    async def main() -> None:
        client = RequestClient([connection_params], owner="tests")
        asking = [requests_by(client).request("q", {"n": n}, timeout=30.0) for n in range(20)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(error) for error in errors} == {BrokerUnreachableError}
        await asyncio.to_thread(client.close)

    arun(main())


def test_a_request_that_no_queue_takes_fails_and_its_neighbours_do_not(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        good = asyncio.create_task(squares(face, 10))
        with pytest.raises(MQError, match=r"amq\.nobody"):  # nobody may declare it
            await face.request("amq.nobody", {"n": 1}, timeout=30.0)
        assert await good == [n**2 for n in range(10)]

    arun(main())


def test_a_request_ends_when_its_time_is_up_and_the_late_answer_is_counted(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        asked.may_answer.clear()
        began = time.monotonic()
        asking = [face.request("square", {"n": n}, timeout=0.4) for n in range(5)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert time.monotonic() - began > 0.39
        assert {type(error) for error in errors} == {RequestTimeoutError}
        assert "no answer within 0.4 s" in str(errors[0])
        asked.may_answer.set()
        await eventually_true(lambda: client.late_replies > 0, what="a late answer is counted")
        assert (await face.request("square", {"n": 6}, timeout=30.0))["square"] == 36

    arun(main())


def test_a_request_that_is_cancelled_is_forgotten_and_its_answer_counted(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        asked.may_answer.clear()
        kept, dropped = (
            asyncio.create_task(face.request("square", {"n": n}, timeout=30.0)) for n in (1, 2)
        )
        await eventually_true(lambda: len(books(client)) == 2)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        assert len(books(client)) == 1
        asked.may_answer.set()
        assert (await kept)["square"] == 1
        await eventually_true(lambda: client.late_replies == 1)
        assert not books(client)

    arun(main())


@ON_BOTH_LOOPS
def test_storms_of_cancelling_leave_nothing_behind_and_harm_nobody(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        chance = random.Random(7)
        answered = 0
        for _round in range(20):
            tasks = [
                asyncio.create_task(face.request("square", {"n": n}, timeout=30.0))
                for n in range(100)
            ]
            for task in tasks:
                if chance.random() < 0.7:
                    asyncio.get_running_loop().call_later(chance.random() * 0.05, task.cancel)
            for n, outcome in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                if isinstance(outcome, dict):
                    assert outcome["square"] == n**2
                    answered += 1
                else:
                    assert isinstance(outcome, asyncio.CancelledError)
        assert answered > 200
        assert not books(client)

    arun(main())


def test_the_loss_of_the_connection_ends_each_request_at_once(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        face = requests_by(client)
        await face.request("square", {"n": 1}, timeout=30.0)
        asking = [
            asyncio.create_task(face.request("nobody", {"n": n}, timeout=600.0)) for n in range(100)
        ]
        await eventually_true(
            lambda: (
                [each["messages"] for each in broker.list_queues(vhost) if each["name"] == "nobody"]
                == [100]
            )
        )
        await asyncio.to_thread(drop_connections, broker, vhost, "requests")
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {RequestLostError}
        assert await squares(face, 10) == [n**2 for n in range(10)]

    arun(main())


def test_parts_are_handed_on_in_order_to_functions_and_coroutines(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        for awaited in (False, True):
            parts: list[int] = []

            def take(part: dict[str, Any], parts: list[int] = parts) -> None:
                parts.append(part["n"])

            async def take_slowly(part: dict[str, Any], parts: list[int] = parts) -> None:
                await asyncio.sleep(0.001)
                parts.append(part["n"])

            last = await face.request(
                "count", {"to": 50}, timeout=30.0, on_part=take_slowly if awaited else take
            )
            assert last["n"] == 49
            assert parts == list(range(50))

    arun(main())


def test_an_answer_that_cannot_be_read_is_said_to_who_awaits_it(
    client: RequestClient, connection_params: pika.ConnectionParameters, arun: LoopRunner
) -> None:
    def answer(channel: Any, _method: Any, properties: Any, _body: bytes | None) -> None:
        direct = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, b"\xff\xfe", direct)

    def serve() -> None:
        connection = pika.BlockingConnection(connection_params)
        channel = connection.channel()
        channel.queue_declare("garbage", durable=True)
        method, properties, body = next(iter(channel.consume("garbage", auto_ack=True)))
        answer(channel, method, properties, body)
        connection.close()

    async def main() -> None:
        serving = asyncio.create_task(asyncio.to_thread(serve))
        with pytest.raises(DecodeError):
            await requests_by(client).request("garbage", {"n": 1}, timeout=30.0)
        await serving

    arun(main())


def test_a_reply_queue_of_the_callers_choice_is_used_and_gone_afterwards(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        face = requests_by(client)
        names: list[str] = []
        asking = [
            face.request(
                "square",
                {"n": n},
                timeout=30.0,
                reply_queue=f"mine{n % 2}",
                on_reply_queue=names.append,
            )
            for n in range(20)
        ]
        answers = await asyncio.gather(*asking)
        assert [answer["square"] for answer in answers] == [n**2 for n in range(20)]
        assert set(names) == {"mine0", "mine1"}
        cancelled = asyncio.create_task(
            face.request("nobody", {"n": 1}, timeout=30.0, reply_queue="mine2")
        )
        await asyncio.sleep(0.005)  # before, while or after the queue is made
        cancelled.cancel()
        await asyncio.wait([cancelled])

        def names_left() -> set[str]:
            return {q["name"] for q in broker.list_queues(vhost) if q["name"].startswith("mine")}

        await eventually_true(lambda: not names_left())

    arun(main())


def test_two_loops_in_two_threads_ask_by_one_client(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def ask() -> None:
        for _ in range(5):
            assert await squares(requests_by(client), 50) == [n**2 for n in range(50)]

    async def main() -> None:
        await asyncio.gather(ask(), *(asyncio.to_thread(LoopRunner(), ask()) for _ in range(2)))

    arun(main())
    arun(ask())


def test_a_closed_client_says_so(asked: Asked, client: RequestClient, arun: LoopRunner) -> None:
    async def main() -> None:
        face = requests_by(client)
        await face.request("square", {"n": 1}, timeout=30.0)
        waiting = asyncio.create_task(face.request("nobody", {"n": 1}, timeout=30.0))
        await eventually_true(lambda: books(client))
        await asyncio.to_thread(client.close)
        with pytest.raises((StoppedError, RequestLostError)):
            await waiting
        with pytest.raises(StoppedError):
            await face.request("square", {"n": 1}, timeout=30.0)

    arun(main())


@pytest.mark.parametrize(
    "data, error", [("text", TypeError), ([("a", 1)], TypeError), ({}, ValueError)]
)
def test_what_is_no_message_is_refused(
    client: RequestClient, arun: LoopRunner, data: Any, error: type[Exception]
) -> None:
    async def main() -> None:
        face = requests_by(client)
        with pytest.raises(error):
            await face.request("q", data, timeout=1.0)
        with pytest.raises(error):
            await face.gather("q", data, timeout=1.0)
        with pytest.raises(error):
            face.stream("q", data, timeout=1.0)
        with pytest.raises(ValueError, match="timeout"):
            await face.request("q", {"n": 1}, timeout=0)
        with pytest.raises(ValueError, match="count"):
            await face.gather("q", {"n": 1}, count=0)

    arun(main())


# -- several services ----------------------------------------------------------------------------


@pytest.fixture
def choir(make_connector: MakeConnector) -> None:
    """Three services that subscribe to one exchange and answer with a number of their own."""
    for number in range(3):
        service = make_connector()

        def answer(
            _channel: Any,
            _method: Any,
            _properties: Any,
            body: bytes,
            service: Any = service,
            number: int = number,
        ) -> None:
            request = b64_to_dict(body)
            service.send_message(
                {"voice": number, "message_id": request["message_id"]},
                queue=request["routing_key"],
            )

        service.register_subscriber("voice", service.vhost, answer, exchange="choir")
        run(service)


def test_all_services_of_an_exchange_answer_one_question(
    choir: None, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        face = requests_by(client)
        answers = await face.gather("", {"sing": 1}, exchange="choir", count=3, timeout=30.0)
        assert sorted(answer["voice"] for answer in answers) == [0, 1, 2]
        began = time.monotonic()
        answers = await face.gather("", {"sing": 1}, exchange="choir", timeout=2.0)
        assert time.monotonic() - began > 0.65
        assert len(answers) == 3

    arun(main())


# -- answers in parts ----------------------------------------------------------------------------


def test_parts_wait_at_the_broker_for_a_slow_reader(
    asked: Asked, client: RequestClient, arun: LoopRunner, channel: BlockingChannel
) -> None:
    async def main() -> None:
        stream = requests_by(client).stream("count", {"to": 1000}, timeout=30.0, prefetch_count=16)
        async with stream as parts:
            read = [(await anext(parts))["n"] for _ in range(10)]
            assert await asyncio.to_thread(asked.parts_sent.wait, 20.0)
            # nine are acknowledged, the tenth is in the reader's hands
            await eventually_true(lambda: messages_in(channel, stream.reply_queue) == 1000 - 9 - 16)
            read += [part["n"] async for part in parts]
            assert read == list(range(1000))
            with pytest.raises(StopAsyncIteration):
                await anext(parts)

    arun(main())


def queues_of(broker: PrivateBroker, vhost: str) -> set[str]:
    return {queue["name"] for queue in broker.list_queues(vhost)}


def test_a_block_that_is_left_early_leaves_no_queue(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        async with requests_by(client).stream("count", {"to": 100}, timeout=30.0) as parts:
            async for part in parts:
                if part["n"] == 5:
                    break
            assert (await anext(parts))["n"] == 6
            assert parts.reply_queue in queues_of(broker, vhost)
        assert parts.reply_queue not in queues_of(broker, vhost)
        assert [part async for part in parts] == []
        await parts.aclose()

    arun(main())


@ON_BOTH_LOOPS
def test_an_iteration_that_is_left_early_leaves_no_queue(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        stream = requests_by(client).stream("count", {"to": 100}, timeout=30.0)
        async for part in stream:
            if part["n"] == 5:
                break
        name = stream.reply_queue
        assert name
        await eventually_true(lambda: name not in queues_of(broker, vhost))

        async def fail() -> None:
            async for _ in stream:
                raise LookupError

        stream = requests_by(client).stream("count", {"to": 100}, timeout=30.0)
        with pytest.raises(LookupError):
            await fail()
        name = stream.reply_queue
        await eventually_true(lambda: name not in queues_of(broker, vhost))
        await eventually_true(lambda: asyncio.all_tasks() <= before)  # the loop's, for `break`

    arun(main())


@ON_BOTH_LOOPS
def test_a_reader_that_is_cancelled_leaves_no_queue(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        stream = requests_by(client).stream("nobody", {"to": 100}, timeout=30.0)

        async def read() -> None:
            async for _ in stream:
                raise AssertionError("nobody answers")

        reading = asyncio.create_task(read())
        await eventually_true(lambda: stream.reply_queue)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.reply_queue not in queues_of(broker, vhost)

    arun(main())


def test_readers_that_are_cancelled_at_any_moment_leave_no_queue(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        face = requests_by(client)

        async def read() -> None:
            async for _ in face.stream("count", {"to": 20}, timeout=30.0):
                await asyncio.sleep(0.001)

        await read()
        before = queues_of(broker, vhost)
        for delay in range(0, 60, 3):
            readers = [asyncio.create_task(read()) for _ in range(3)]
            await asyncio.sleep(delay / 1000)
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
        await eventually_true(lambda: queues_of(broker, vhost) == before)

    arun(main())


def test_each_part_has_the_time_that_was_given_and_then_it_is_said(
    old_service: StartOldService, client: RequestClient, arun: LoopRunner
) -> None:
    def one_and_no_more(channel: BlockingChannel, request: dict[str, Any]) -> None:
        first = next(iter(parts_of({**request, "to": 2})))
        channel.basic_publish("", request["routing_key"], dict_to_b64(first))

    old_service("one", one_and_no_more)

    async def main() -> None:
        async with requests_by(client).stream("one", {"n": 1}, timeout=1.0) as parts:
            assert (await anext(parts))["n"] == 0
            with pytest.raises(RequestTimeoutError, match="'one'"):
                await anext(parts)
            with pytest.raises(RequestTimeoutError):  # it must not be taken for the end
                await anext(parts)

    arun(main())


def test_the_loss_of_the_connection_is_told_to_who_reads(
    asked: Asked, client: RequestClient, arun: LoopRunner, broker: PrivateBroker, vhost: str
) -> None:
    async def main() -> None:
        stream = requests_by(client).stream("nobody", {"n": 1}, timeout=40.0)
        reading = asyncio.create_task(anext(stream))
        await eventually_true(lambda: stream.reply_queue)
        await asyncio.to_thread(drop_connections, broker, vhost, "requests")
        with pytest.raises(RequestLostError):
            await reading

    arun(main())


def test_a_second_reader_takes_nothing_from_the_first(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def main() -> None:
        stream = requests_by(client).stream("count", {"to": 5}, timeout=30.0)

        async def read() -> list[int]:
            return [part["n"] async for part in stream]

        first, second = await asyncio.gather(read(), read(), return_exceptions=True)
        assert first == [0, 1, 2, 3, 4]
        assert isinstance(second, RuntimeError)
        assert await read() == []

    arun(main())


def test_a_wait_for_a_part_may_be_cancelled_and_made_again(
    old_service: StartOldService, client: RequestClient, arun: LoopRunner
) -> None:
    may_answer = threading.Event()

    def count_late(channel: BlockingChannel, request: dict[str, Any]) -> None:
        assert may_answer.wait(30.0)
        count_like_old_services(channel, request)

    old_service("late", count_late)

    async def main() -> None:
        async with requests_by(client).stream("late", {"to": 3}, timeout=30.0) as parts:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(parts), 0.05)
            may_answer.set()
            assert [part["n"] async for part in parts] == [0, 1, 2]

    arun(main())


def test_a_stream_has_one_reader(asked: Asked, client: RequestClient, arun: LoopRunner) -> None:
    async def main() -> None:
        async with requests_by(client).stream("nobody", {"n": 1}, timeout=30.0) as parts:
            reading = asyncio.create_task(anext(parts))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(parts)
            await parts.aclose()
            with pytest.raises(StopAsyncIteration):
                await reading

    arun(main())


def books(client: RequestClient) -> dict[str, Any]:
    """Give what the client has written down of requests that wait."""
    channel = client.open_channel
    return {} if channel is None else dict(channel._by_correlation)
