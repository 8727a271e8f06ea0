"""A service that asks others, on asyncio: any number at once, several services, or in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neon_mq_connector.aio.reply_stream import AsyncReplyStream
from neon_mq_connector.aio.service.messaging import AsyncMessagingService
from neon_mq_connector.service.messaging import WIRE_FORMATS


class AsyncAskingService(AsyncMessagingService):
    """Ask over the connection that all requests of the process share."""

    async def request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """Ask another service and wait for its answer; any number of requests may be in flight.

        When the wait is cancelled the answer is dropped; the other service may do what it was asked
        all the same.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service.
            vhost: the virtual host; the service's own by default.
            timeout: how long to wait, in seconds; the setting ``request_timeout`` (30) by default.
            on_part: for an answer in parts: called with each of them, the last included, and
                awaited if it is a coroutine function.

        Returns:
            The answer; of one in parts the last.

        Raises:
            RequestTimeoutError: no answer in time.
            RequestLostError: the connection ended; the other service may have got the request.
            UnroutableError: no queue takes the request.
            MQConnectionError: there is no connection.
            DecodeError: the answer cannot be read.
            StoppedError: the connector was stopped.
        """
        settings = self._threaded.settings
        requests = await self._bound().requests(vhost or self.vhost)
        return await requests.request(
            queue,
            request_data,
            timeout=settings.request_timeout if timeout is None else timeout,
            wire_format=WIRE_FORMATS[settings.wire_format],
            on_part=on_part,
        )

    async def gather(
        self,
        request_data: Mapping[str, Any],
        queue: str = "",
        *,
        exchange: str = "",
        count: int | None = None,
        vhost: str = "",
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """Ask several services with one request, and collect their answers.

        Args:
            request_data: the request; it is not changed.
            queue: the routing key; empty for a fanout exchange.
            exchange: the exchange that hands the request to each of the services.
            count: return when so many answers are there; by default when the time is up.
            vhost: the virtual host; the service's own by default.
            timeout: how long to collect, in seconds; the setting ``request_timeout`` (30) by
                default.

        Returns:
            The answers in the order in which they came. When the time is up there may be fewer
            than ``count``, or none.

        Raises:
            ValueError: there is neither a queue nor an exchange.
            MQError: as `request`.
        """
        if not queue and not exchange:
            raise ValueError("a request needs a queue or an exchange to go to; both are empty")
        settings = self._threaded.settings
        requests = await self._bound().requests(vhost or self.vhost)
        return await requests.gather(
            queue,
            request_data,
            count=count,
            timeout=settings.request_timeout if timeout is None else timeout,
            exchange=exchange,
            wire_format=WIRE_FORMATS[settings.wire_format],
        )

    def stream(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        prefetch_count: int = 32,
    ) -> AsyncReplyStream:
        """Ask another service for an answer in parts.

        However slow the reader is, no more than ``prefetch_count`` parts are in memory; the others
        wait at the broker.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service.
            vhost: the virtual host; the service's own by default.
            timeout: how long the first part, and each further one, may take, in seconds; the
                setting ``request_timeout`` (30) by default.
            prefetch_count: how many parts are fetched ahead.

        Returns:
            The parts, for ``async for``; where they may not be read to the end, use an ``async
            with`` around it. The request is sent when that begins. While they are read it raises
            what `request` raises.

        Example:
            >>> async with connector.stream({"to": 1000}, "count_input") as parts:
            ...     async for part in parts:
            ...         print(part["number"])
        """
        settings = self._threaded.settings
        return (
            self._bound()
            .requests_now(vhost or self.vhost)
            .stream(
                queue,
                request_data,
                timeout=settings.request_timeout if timeout is None else timeout,
                prefetch_count=prefetch_count,
                wire_format=WIRE_FORMATS[settings.wire_format],
            )
        )
