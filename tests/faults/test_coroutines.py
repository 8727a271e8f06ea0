"""The line breaks while coroutines publish: their loop goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from neon_mq_connector import MQConnector
from tests.faults.conftest import register, run
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE = "in"


def test_a_task_factory_that_raises_fails_the_message_and_not_the_consumer(
    service: MQConnector, ledger: Ledger, peer: Peer
) -> None:
    def refuse(_loop: Any, _coroutine: Any, **_: Any) -> Any:
        raise RuntimeError("no tasks today")

    async def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        ledger.handled(properties.message_id)
        if body == b"break0":
            asyncio.get_running_loop().set_task_factory(refuse)

    async def on_error(_thread: Any, _error: BaseException) -> None:
        """Be told as a task, too."""

    peer.declare(QUEUE)
    register(service, QUEUE, callback, on_error, concurrency=1, ack="on_receipt")
    run(service)
    peer.wait_until_handled(peer.send(QUEUE, 1, prefix="break"))
    refused = peer.send(QUEUE, 3, prefix="refused")
    eventually(lambda: peer.counts(QUEUE + DEAD) == (3, 0), what="they are parked")
    loop = service._mq_core.consumers._loop
    assert loop is not None
    loop.call(loop.loop.set_task_factory, None)
    peer.wait_until_handled(peer.send(QUEUE, 3))
    assert service.check_health(), service.health().reasons
    assert not set(refused) & ledger.handled_ids


def test_a_loop_that_ends_is_found_though_nothing_comes_and_replaced(
    make_service: Callable[..., MQConnector], ledger: Ledger, peer: Peer
) -> None:
    async def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        ledger.handled(properties.message_id)

    service = make_service()
    service.observe_period = 1
    register(service, QUEUE, callback, ack="on_receipt")
    service.run(run_sync=False, mq_timeout=20)
    peer.wait_until_handled(peer.send(QUEUE, 1, prefix="before"))
    ended = service._mq_core.consumers._loop
    assert ended is not None
    ended.stop(5.0)  # as it does when a callback closes it
    eventually(lambda: service.health().reasons, timeout=20.0, what="it is found")
    eventually(service.check_health, timeout=20.0, what="it is replaced")
    peer.wait_until_handled(peer.send(QUEUE, 3))
