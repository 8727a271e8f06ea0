"""A consumer in whose callbacks tests do things."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from neon_mq_connector import MQConnector
from tests.integration.conftest import Seen, run


class Stage:
    """A running consumer, named as its queue: "stage".

    Args:
        channel: sends it messages.
        connector: runs it.
        form: of its callback: "function", "coroutine", or "message" for one that takes an
            aio-pika message.
        options: of its registration.

    Attributes:
        seen: the errors that its ``on_error`` is told.
        deliveries: what the function was given.
    """

    def __init__(
        self, channel: BlockingChannel, connector: MQConnector, form: str, **options: Any
    ) -> None:
        self.connector, self.channel, self.seen = connector, channel, Seen()
        self.deliveries: list[tuple[Any, BasicProperties, bytes]] = []
        self._action: Callable[..., Any] = lambda *_: None
        self._result: Future[Any] = Future()
        callback = getattr(self, f"_as_{form}")
        connector.register_consumer(
            "stage",
            connector.vhost,
            "stage",
            callback,
            self.seen.on_error,
            **{"durable": True, **options},
        )
        run(connector)

    def play(
        self,
        action: Callable[..., Any],
        body: bytes = b"go",
        properties: BasicProperties | None = None,
    ) -> Any:
        """Do something in a callback and return what it returned, or raise what it raised."""
        self._action, self._result = action, Future()
        self.channel.basic_publish("", "stage", body, properties)
        return self._result.result(120)

    def _as_function(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.deliveries.append((method, properties, body))
        try:
            self._result.set_result(self._action(channel, method))
        except BaseException as error:
            self._result.set_exception(error)
        channel.basic_ack(method.delivery_tag)

    async def _as_coroutine(self, channel: Any, method: Any, *_: Any) -> None:
        await self._act(channel, method)

    async def _as_message(self, message: Any) -> None:
        await self._act(message)

    async def _act(self, *arguments: Any) -> None:
        result = self._result
        try:
            value = await self._action(*arguments)
        except BaseException as error:
            if not result.done():  # a message may come again
                result.set_exception(error)
            raise
        if not result.done():
            result.set_result(value)
