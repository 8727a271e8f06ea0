"""The line breaks while coroutines publish: their loop goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pika.spec import BasicProperties

from neon_mq_connector import ExponentialBackoff, MQConnector, Retry
from neon_mq_connector.testing.proxy import FaultProxy
from tests.faults.conftest import register, run
from tests.faults.peer import DEAD, Peer
from tests.support.accounting import Ledger
from tests.support.polling import eventually

QUEUE, OUT = "in", "out"
#: Enough tries that no outage of these tests uses them up.
PATIENT = Retry(attempts=20, backoff=ExponentialBackoff(first=0.2, ceiling=1.0))


class Forwarder:
    """Forward each message to another queue, and watch how the loop fares."""

    def __init__(self, ledger: Ledger, *, awaited: bool) -> None:
        self._ledger = ledger
        self._awaited = awaited
        self.beats = 0
        self.may_end = threading.Event()

    async def forward(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        mine = BasicProperties(message_id=properties.message_id, delivery_mode=2)
        publish = channel.basic_publish("", OUT, body, mine)
        if self._awaited:
            await publish
            self._ledger.handled(properties.message_id)
        channel.basic_ack(method.delivery_tag)

    async def beat(self, *_: Any) -> None:
        while not self.may_end.is_set():
            await asyncio.sleep(0.01)
            self.beats += 1


@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "not awaited"])
@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(FaultProxy.reset, id="reset"),
        pytest.param(FaultProxy.blackhole, id="swallowed"),
        pytest.param(lambda line: (line.refuse(), line.reset()), id="refused"),
    ],
)
def test_what_coroutines_forward_arrives_and_their_loop_goes_on(
    service: MQConnector,
    ledger: Ledger,
    proxy: FaultProxy,
    peer: Peer,
    break_it: Callable[[FaultProxy], object],
    awaited: bool,
) -> None:
    forwarder = Forwarder(ledger, awaited=awaited)
    peer.declare(OUT)
    vhost = service.vhost
    service.register_consumer("beat", vhost, "beat", forwarder.beat, durable=True)
    service.register_consumer(
        "it",
        vhost,
        QUEUE,
        forwarder.forward,
        lambda *_: None,
        auto_ack=False,
        retry=PATIENT,
        durable=True,
    )
    run(service)
    with peer.channel() as channel:
        channel.basic_publish("", "beat", b"go")
    eventually(lambda: forwarder.beats, what="the loop is looked at")
    peer.send(QUEUE, 20, prefix="before")
    for number in range(2):
        peer.send(QUEUE, 20, prefix=f"round{number}-")
        break_it(proxy)
        peer.send(QUEUE, 20, prefix=f"broken{number}-")
        # a publish that waited on the loop would hold it up until it is given up, for 15 seconds
        beats = forwarder.beats
        eventually(lambda: forwarder.beats > beats + 5, what="the loop goes on")  # noqa: B023
        proxy.restore()
    peer.wait_until_settled(QUEUE, timeout=30.0)
    eventually(service.check_health)
    forwarder.may_end.set()
    service.stop()
    arrived = set(peer.ids_in(OUT))
    assert ledger.confirmed_ids <= arrived


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
