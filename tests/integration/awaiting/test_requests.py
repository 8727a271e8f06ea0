"""Requests that coroutines await."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector.aio.blocking import wait_until_done
from neon_mq_connector.aio.clients import current_clients
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.client import RequestClient, RequestSpec
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.testing import PrivateBroker
from tests.contract.peer import OldStyleService
from tests.integration.conftest import Asked, Queues, count_like_old_services
from tests.support.loops import ON_BOTH_LOOPS, LoopRunner, eventually_true

StartOldService = Callable[..., OldStyleService]


async def squares(requests: AsyncRequests, count: int, **options: Any) -> list[int]:
    specs = (RequestSpec("square", {"n": n}, timeout=120) for n in range(count))
    answers = await asyncio.gather(*(requests.request(spec, **options) for spec in specs))
    return [answer["square"] for answer in answers]


async def test_each_of_1000_requests_in_flight_gets_its_own_answer(
    asked: Asked, client: RequestClient
) -> None:
    asked.may_answer.clear()
    requests = current_clients().requests(client)
    asyncio.get_running_loop().call_later(0.3, asked.may_answer.set)
    assert await squares(requests, 1000) == [n**2 for n in range(1000)]
    assert client.late_replies == 0


async def test_a_request_that_is_cancelled_is_forgotten_and_its_answer_counted(
    asked: Asked, client: RequestClient
) -> None:
    requests = current_clients().requests(client)
    asked.may_answer.clear()
    kept, dropped = (
        asyncio.create_task(requests.request(RequestSpec("square", {"n": n}, timeout=120)))
        for n in (1, 2)
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
    await asyncio.to_thread(client.close)
    with pytest.raises(StoppedError):
        await requests.request(RequestSpec("square", {"n": 1}, timeout=120))


@ON_BOTH_LOOPS
async def test_storms_of_cancelling_leave_nothing_behind_and_harm_nobody(
    asked: Asked, client: RequestClient
) -> None:
    requests = current_clients().requests(client)
    chance = random.Random(7)
    answered = 0
    for _round in range(8):
        tasks = [
            asyncio.create_task(requests.request(RequestSpec("square", {"n": n}, timeout=120)))
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
    assert answered > 80
    assert not books(client)


async def test_parts_are_handed_on_in_order_to_functions_and_coroutines(
    asked: Asked, client: RequestClient
) -> None:
    requests = current_clients().requests(client)
    for awaited in (False, True):
        parts: list[int] = []

        def take(part: dict[str, Any], parts: list[int] = parts) -> None:
            parts.append(part["n"])

        async def take_slowly(part: dict[str, Any], parts: list[int] = parts) -> None:
            await asyncio.sleep(0.001)
            parts.append(part["n"])

        last = await requests.request(
            RequestSpec("count", {"to": 50}, timeout=120), on_part=take_slowly if awaited else take
        )
        assert last["n"] == 49
        assert parts == list(range(50))


async def test_a_reply_queue_of_the_callers_choice_is_used_and_gone_afterwards(
    asked: Asked, client: RequestClient, broker: PrivateBroker, vhost: str
) -> None:
    requests = current_clients().requests(client)
    names: list[str] = []
    asking = [
        requests.request(
            RequestSpec("square", {"n": n}, timeout=120),
            reply_queue=f"mine{n % 2}",
            on_reply_queue=names.append,
        )
        for n in range(20)
    ]
    answers = await asyncio.gather(*asking)
    assert [answer["square"] for answer in answers] == [n**2 for n in range(20)]
    assert set(names) == {"mine0", "mine1"}
    cancelled = asyncio.create_task(
        requests.request(RequestSpec("nobody", {"n": 1}, timeout=120), reply_queue="mine2")
    )
    await asyncio.sleep(0.005)  # before, while or after the queue is made
    cancelled.cancel()
    await asyncio.wait([cancelled])

    def names_left() -> set[str]:
        return {q["name"] for q in broker.list_queues(vhost) if q["name"].startswith("mine")}

    await eventually_true(lambda: not names_left())


def test_two_loops_in_two_threads_ask_by_one_client(
    asked: Asked, client: RequestClient, arun: LoopRunner
) -> None:
    async def ask() -> None:
        for _ in range(5):
            assert await squares(current_clients().requests(client), 50) == [
                n**2 for n in range(50)
            ]

    async def main() -> None:
        await asyncio.gather(ask(), *(asyncio.to_thread(LoopRunner(), ask()) for _ in range(2)))

    arun(main())
    arun(ask())


# -- answers in parts ----------------------------------------------------------------------------


@ON_BOTH_LOOPS
async def test_an_iteration_that_is_left_early_leaves_no_queue(
    asked: Asked, client: RequestClient, queues: Queues
) -> None:
    before = asyncio.all_tasks()
    requests = current_clients().requests(client)

    async def leave(stream: Any, fails: bool) -> None:
        async for part in stream:
            if fails:
                raise LookupError
            if part["n"] == 5:
                break

    for fails in (False, True):
        stream = requests.stream(RequestSpec("count", {"to": 100}, timeout=120))
        with pytest.raises(LookupError) if fails else nullcontext():
            await leave(stream, fails)
        assert stream.reply_queue
        await eventually_true(lambda name=stream.reply_queue: name not in queues())
    await eventually_true(lambda: asyncio.all_tasks() <= before)  # the loop's, for `break`


async def test_readers_that_are_cancelled_at_any_moment_leave_no_queue(
    asked: Asked, client: RequestClient, queues: Queues
) -> None:
    requests = current_clients().requests(client)

    async def read() -> None:
        async for _ in requests.stream(RequestSpec("count", {"to": 20}, timeout=120)):
            await asyncio.sleep(0.001)

    await read()
    before = queues()
    for delay in range(0, 60, 6):
        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.sleep(delay / 1000)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    # what was being opened when it was cancelled is opened, and deleted again
    await wait_until_done(current_clients().calls.threads, 60.0)
    await eventually_true(lambda: queues() == before)


async def test_a_wait_for_a_part_may_be_cancelled_and_made_again(
    old_service: StartOldService, client: RequestClient
) -> None:
    may_answer = threading.Event()

    def count_late(channel: BlockingChannel, request: dict[str, Any]) -> None:
        assert may_answer.wait(120)
        count_like_old_services(channel, request)

    old_service("late", count_late)

    requests = current_clients().requests(client)
    async with requests.stream(RequestSpec("late", {"to": 3}, timeout=120)) as parts:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(parts), 0.05)
        may_answer.set()
        assert [part["n"] async for part in parts] == [0, 1, 2]


async def test_a_block_around_a_stream_that_is_closed_has_nothing_to_read(
    asked: Asked, client: RequestClient
) -> None:
    parts = current_clients().requests(client).stream(RequestSpec("count", {"to": 3}, timeout=120))

    async def read() -> list[int]:
        async with parts:
            return [part["n"] async for part in parts]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    await parts.aclose()  # while it is being opened
    assert await reading == []
    assert await read() == []


async def test_a_stream_has_one_reader(asked: Asked, client: RequestClient) -> None:
    requests = current_clients().requests(client)
    async with requests.stream(RequestSpec("nobody", {"n": 1}, timeout=120)) as parts:
        reading = asyncio.create_task(anext(parts))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(parts)
        await parts.aclose()
        with pytest.raises(StopAsyncIteration):
            await reading
    await parts.aclose()
    assert [part async for part in parts] == []


def books(client: RequestClient) -> dict[str, Any]:
    """Give what the client has written down of requests that wait."""
    channel = client.open_channel
    return {} if channel is None else dict(channel._by_correlation)
