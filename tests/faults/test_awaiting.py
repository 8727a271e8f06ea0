"""What coroutines await when the line or the broker fails: each is told, and the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from neon_mq_connector import AsyncMQConnector
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    RemoteError,
    RequestLostError,
    RequestTimeoutError,
)
from neon_mq_connector.testing.proxy import FaultProxy
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.faults.conftest import CUTS, HEARTBEAT, SERVICE
from tests.support.loops import ON_BOTH_LOOPS, Heartbeat, arun, eventually_true

__all__ = ["arun"]

Make = Callable[..., AsyncMQConnector]


class Squares(AsyncMQConnector):
    """Answers, a moment later."""

    async def square(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        await asyncio.sleep(0.02)
        await self.send_message(
            {"square": request["n"] ** 2, "message_id": request["message_id"]},
            queue=request["routing_key"],
        )


@pytest.fixture
def make(config: dict[str, Any], vhost: str) -> Make:
    """Make connectors behind the proxy, with further settings."""

    def make_one(**settings: Any) -> AsyncMQConnector:
        connector = Squares({**config, **settings}, SERVICE)
        connector.vhost = vhost
        connector.register_consumer("square", vhost, "square", connector.square, ack="on_success")
        return connector

    return make_one


@ON_BOTH_LOOPS
async def test_of_100_requests_on_a_line_that_is_cut_each_is_answered_or_told(
    make: Make, proxy: FaultProxy
) -> None:
    async with make() as service, Heartbeat() as heartbeat:

        async def ask(n: int, timeout: float = 120) -> bool:
            answer = await service.request({"n": n}, "square", timeout=timeout)
            assert answer["square"] == n**2
            return True

        await ask(0)
        for cut in CUTS.values():
            asking = [asyncio.create_task(ask(n, timeout=10.0)) for n in range(100)]
            await asyncio.sleep(0.01)
            await asyncio.to_thread(cut, proxy)
            outcomes = await asyncio.gather(*asking, return_exceptions=True)
            failures = [each for each in outcomes if each is not True]
            # the service may have lost the answer, and say that
            told = (RequestLostError, RequestTimeoutError, MQConnectionError, RemoteError)
            assert all(isinstance(each, told) for each in failures), failures
        await eventually_true(service.check_health)
        await ask_until_answered(ask)
        assert heartbeat.beats > 5
        channel = service._mq_core.hosts.client(service.vhost).open_channel
        assert channel is None or not channel._by_correlation


async def ask_until_answered(ask: Callable[..., Any]) -> None:
    for n in range(10):
        with contextlib.suppress(MQError):
            await ask(n, timeout=12.0)
            return
    raise AssertionError("nobody answers any more")


async def test_a_line_that_goes_dead_costs_the_time_that_was_given(
    make: Make, proxy: FaultProxy
) -> None:
    settings = {"heartbeat": HEARTBEAT, "publish_timeout": 5, "stop_timeout": 5}
    async with make(**settings) as service, Heartbeat() as heartbeat:
        await service.request({"n": 2}, "square", timeout=120)
        proxy.blackhole(new=True)
        beats = heartbeat.beats
        asking = [service.request({"n": n}, "square", timeout=1.0) for n in range(20)]
        sending = [service.send_message({"n": n}, queue="q") for n in range(20)]
        outcomes = await asyncio.gather(*asking, *sending, return_exceptions=True)
        assert all(isinstance(each, MQError) for each in outcomes)
        assert heartbeat.beats > beats
        await eventually_true(lambda: not service.check_health())
        proxy.restore()
        await eventually_true(service.check_health)
