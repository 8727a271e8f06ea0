"""A stop ends what waits, and waits for nothing else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel

from neon_mq_connector import ExponentialBackoff, MQConnector, Retry
from neon_mq_connector.testing import EmbeddedBroker
from tests.support.configurations import config_of
from tests.support.polling import eventually

PATIENCE = 120.0
AT_ONCE = Retry(backoff=ExponentialBackoff(first=0.001))


def test_a_stop_gives_back_what_waits_for_its_next_try_behind_others(
    embedded: EmbeddedBroker, messages: BlockingChannel
) -> None:
    bodies = (b"fails", b"first", b"second")
    entered = {body: threading.Event() for body in bodies}
    may_end = {body: threading.Event() for body in bodies}

    async def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        entered[body].set()
        assert await asyncio.to_thread(may_end[body].wait, PATIENCE)
        if body == b"fails":
            raise LookupError

    def wait_for_backlog(count: int) -> None:
        eventually(lambda: connector.health().consumers["c"].waiting >= count)

    connector = MQConnector(config_of(embedded, "service", stop_timeout=600), "service")
    connector.register_consumer(
        "c",
        "/",
        "work",
        callback,
        ack="on_success",
        concurrency=1,
        retry=AT_ONCE,
        durable=True,
    )
    connector.run(run_sync=False)
    for count, body in enumerate(bodies):
        messages.basic_publish("", "work", body)
        assert entered[b"fails"].wait(PATIENCE)
        wait_for_backlog(count)
    may_end[b"fails"].set()
    assert entered[b"first"].wait(PATIENCE)
    wait_for_backlog(2)
    may_end[b"first"].set()
    assert entered[b"second"].wait(PATIENCE)
    stopping = threading.Thread(target=connector.stop)
    stopping.start()
    eventually(lambda: not connector.started)
    may_end[b"second"].set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert messages.basic_get("work", auto_ack=True)[2] == b"fails"
