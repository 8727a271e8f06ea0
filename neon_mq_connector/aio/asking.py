"""The half of `AsyncMQConnector` that asks others: for one answer, several, or parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from neon_mq_connector.aio.lifecycle import Lifecycle
from neon_mq_connector.aio.reply_stream import AsyncReplyStream
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.faces.asking import prepare_request, request_options
from neon_mq_connector.handlers.declared import Handler, StreamHandler
from neon_mq_connector.handlers.parts import AsyncParts
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.core import Core

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
PartT = TypeVar("PartT")


class AsksServicesAsync(ConfiguredService):
    """Ask over the connection that all requests of the process share."""

    _mq_core: Core
    _mq_lifecycle: Lifecycle

    @overload
    async def request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]: ...

    @overload
    async def request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
    ) -> AnswerT: ...

    async def request(
        self,
        request_data: Any,
        queue: str | Handler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> Any:
        """Ask another service and wait for its answer; any number of requests may be in flight.

        Arguments and errors are those of `MQConnector.request`; ``on_part`` is awaited if it is a
        coroutine function. `StoppedError` when the connector is stopped. When the wait is cancelled
        the answer is dropped; the other service may do what it was asked all the same.
        """
        name, data, read = prepare_request(request_data, queue, Handler)
        options = request_options(self.settings, timeout, wire_format)
        requests = await self._mq_lifecycle.requests(vhost)
        answer = await requests.request(name, data, on_part=on_part, **options)
        return read(answer)

    async def gather(
        self,
        request_data: Mapping[str, Any],
        queue: str = "",
        *,
        exchange: str = "",
        count: int | None = None,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
    ) -> list[dict[str, Any]]:
        """Ask several services with one request, and collect their answers.

        Arguments, result and errors are those of `MQConnector.gather_answers`.
        """
        if not queue and not exchange:
            raise ValueError("a request needs a queue or an exchange to go to; both are empty")
        options = request_options(self.settings, timeout, wire_format)
        requests = await self._mq_lifecycle.requests(vhost)
        return await requests.gather(queue, request_data, count=count, exchange=exchange, **options)

    @overload
    def stream(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> AsyncReplyStream: ...

    @overload
    def stream(
        self,
        request_data: RequestT,
        queue: StreamHandler[RequestT, PartT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> AsyncParts[PartT]: ...

    def stream(
        self,
        request_data: Any,
        queue: str | StreamHandler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> Any:
        """Ask another service for an answer in parts; see `MQConnector.stream_answer`.

        Of a handler the parts are what it yields.

        The request is sent when the first part is awaited, or an ``async with`` around the parts
        begins, which is needed where they may not be read to the end.
        """
        name, data, read = prepare_request(request_data, queue, StreamHandler)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        requests = self._mq_lifecycle.binding().requests(client)
        options = request_options(self.settings, timeout, wire_format)
        parts = requests.stream(name, data, prefetch_count=prefetch_count, **options)
        return parts if isinstance(queue, str) else AsyncParts(parts, read)
