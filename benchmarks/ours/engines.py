"""Services whose callbacks are run by one engine or another; one of them may block."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.actor import Actor
from benchmarks.site import Site
from neon_mq_connector import MQConnector, create_mq_callback

_NAME = "bench_service"
#: How long the callback that blocks does so, in seconds.
BLOCKS_FOR = 0.05


class _Answering(MQConnector):
    @create_mq_callback()
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": body["text"]}

    @create_mq_callback()
    async def answer_awaiting(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": body["text"]}


def _block(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    time.sleep(BLOCKS_FOR)


async def _block_the_loop(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    time.sleep(BLOCKS_FOR)  # what a coroutine must not do


class Service(Actor):
    """Answer each request with its own text.

    Args:
        site: where the broker is.
        queue: where requests come.
        coroutines: whether the callbacks are coroutine functions.
        select: whether `SelectConsumerThread` is to run them.
        blocking: another queue, whose callback blocks for a while at each message.
    """

    def __init__(
        self,
        site: Site,
        queue: str,
        *,
        coroutines: bool = False,
        select: bool = False,
        blocking: str | None = None,
    ) -> None:
        super().__init__(site, queue)
        self._connector = connector = _Answering(site.config(_NAME), _NAME)
        connector.vhost = site.vhost
        options: dict[str, Any] = {"async_consumer": True} if select else {}
        answer = connector.answer_awaiting if coroutines else connector.answer
        connector.register_consumer("requests", site.vhost, queue, answer, **options)
        if blocking is not None:
            block = _block_the_loop if coroutines else _block
            connector.register_consumer("blocking", site.vhost, blocking, block, **options)
        connector.run()

    def close(self) -> None:
        """Stop the service."""
        self._connector.stop()
