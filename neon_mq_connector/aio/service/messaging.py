"""A service that sends, on asyncio: messages, and the sign that it is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from pika.exchange_type import ExchangeType

from neon_mq_connector.aio.service.binding import Binding, Phase
from neon_mq_connector.aio.service.configured import AsyncConfiguredService
from neon_mq_connector.errors import StoppedError
from neon_mq_connector.service.messaging import destination_of


class AsyncMessagingService(AsyncConfiguredService):
    """Send from the coroutines of one loop, over connections that all parts of a service share.

    `_binding` is what the connector has on that loop, which owns it; it begins with the first use,
    and ends with a stop.
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._binding: Binding | None = None
        self._phase = Phase.OPEN

    async def send_message(
        self,
        request_data: Mapping[str, Any],
        vhost: str = "",
        *,
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = 1000,
    ) -> str:
        """Send a message, and wait until the broker has it in a queue.

        Any number may be sent at a time (`asyncio.gather`): as many as there is room for are on
        their way, the others wait their turn. When the wait is cancelled the message may have been
        sent, or be sent still.

        In a callback, a message for the queue that the request names in ``routing_key`` answers it:
        in the format in which it came, and directly where its sender can take that.

        Args:
            request_data: what to send; it is not changed. A ``message_id`` is set in what is sent
                where it is missing or None: that of ``context.mq``, or else a new one.
            vhost: the virtual host; the service's own by default.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange. To a fanout exchange the message is published:
                nobody need be there.
            expiration: how long the message may wait in a queue, in milliseconds; None for ever.

        Returns:
            The message's id.

        Raises:
            TypeError: the data is not a mapping.
            ValueError: the data is empty, or there is neither exchange nor queue.
            UnroutableError: no queue takes it.
            PublishError: the broker did not confirm it; see ``may_have_arrived``.
            TopologyError: the broker refused to declare the exchange or the queue.
            StoppedError: the connector was stopped.
        """
        threaded = self._threaded
        target, prepare = threaded.sending(
            destination_of(exchange, queue, exchange_type), expiration
        )
        sender = await self._bound().sender(vhost or self.vhost)
        return await sender.send(
            target, prepare(request_data), timeout=threaded.settings.publish_timeout
        )

    async def publish_message(
        self,
        request_data: Mapping[str, Any],
        exchange: str,
        *,
        vhost: str = "",
        expiration: int | None = 1000,
    ) -> str:
        """Publish to a fanout exchange, and wait until the broker has the message.

        Args:
            request_data: what to send; as for `send_message`.
            exchange: the exchange, declared if it is missing.
            vhost: the virtual host; the service's own by default.
            expiration: how long the message may wait in a queue, in milliseconds; None for ever.

        Returns:
            The message's id; raises as `send_message`.
        """
        return await self.send_message(
            request_data,
            vhost,
            exchange=exchange,
            exchange_type=ExchangeType.fanout,
            expiration=expiration,
        )

    async def sync(
        self,
        vhost: str | None = None,
        exchange: str | None = None,
        queue: str | None = None,
        request_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the service's presence: its id and the time.

        Args:
            vhost: the virtual host; the service's own by default.
            exchange: the fanout exchange; ``<service>_sync`` by default.
            queue: a queue to bind to it.
            request_data: what to publish instead.
        """
        await self.send_message(
            request_data or {"service_id": self.service_id, "time": int(time.time())},
            vhost or "",
            exchange=exchange or f"{self.service_name}_sync",
            queue=queue or "",
            exchange_type=ExchangeType.fanout,
        )

    def _bound(self) -> Binding:
        """Give what the connector has on the running loop.

        Raises:
            StoppedError: the connector was stopped.
            RuntimeError: it belongs to another loop, or none is running.
        """
        binding = self._binding
        running = asyncio.get_running_loop()
        if binding is not None and binding.loop.loop is running:
            return binding
        if binding is not None and not binding.loop.has_ended:
            raise RuntimeError(f"{self!r} belongs to another asyncio loop until it is stopped")
        if self._phase is Phase.STOPPED:
            raise StoppedError(
                f"service {self.service_name!r} was stopped, or could not be started"
            )
        binding = self._binding = Binding(self._threaded)
        self._threaded.current_loop().bind(binding.loop)
        return binding

    async def _in_thread(self, function: Callable[[], object], timeout: float, what: str) -> None:
        await self._bound().lifecycle.run(function, timeout=timeout, what=what)
