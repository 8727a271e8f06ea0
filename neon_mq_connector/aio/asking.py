"""The half of `AsyncMQConnector` that asks others: for one answer, several, or parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from neon_mq_connector.aio.lifecycle import Lifecycle
from neon_mq_connector.aio.requests import AsyncReplyStream
from neon_mq_connector.api.requests import RequestOptions, request_spec, stream_spec
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.handlers.declared import Handler, StreamHandler
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.core import Core

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
        on_part: Callable[[dict[str, Any]], object] | None = None,
        **options: Unpack[RequestOptions],
    ) -> dict[str, Any]: ...
    @overload
    async def request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        **options: Unpack[RequestOptions],
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
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format)
        requests = await self._mq_lifecycle.requests(vhost)
        return await requests.request(spec, on_part=on_part)

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
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format, exchange)
        requests = await self._mq_lifecycle.requests(vhost)
        return await requests.gather(spec, count=count)

    @overload
    def stream(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        prefetch_count: int = 32,
        **options: Unpack[RequestOptions],
    ) -> AsyncReplyStream[dict[str, Any]]: ...
    @overload
    def stream(
        self,
        request_data: RequestT,
        queue: StreamHandler[RequestT, PartT, ..., Any],
        *,
        prefetch_count: int = 32,
        **options: Unpack[RequestOptions],
    ) -> AsyncReplyStream[PartT]: ...
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
        spec = stream_spec(self.settings, request_data, queue, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        requests = self._mq_lifecycle.binding().requests(client)
        return requests.stream(spec, prefetch_count=prefetch_count)
