"""The half of `AsyncMQConnector` that asks others: for one answer, several, or parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from neon_mq_connector.aio.lifecycle import Lifecycle
from neon_mq_connector.aio.reply_stream import AsyncReplyStream
from neon_mq_connector.aio.requests import AsyncRequests
from neon_mq_connector.aio.threaded import Settable, ThreadedConnector
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.handlers.declared import Handler, StreamHandler
from neon_mq_connector.handlers.parts import AsyncParts
from neon_mq_connector.service.asking import question

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
PartT = TypeVar("PartT")

#: How long it may take to read what connections to a virtual host need, in seconds.
_PREPARING = 15.0


class AskingConnector:
    """Ask over the connection that all requests of the process share.

    Args:
        threaded: has the connections and the settings.
    """

    vhost: Settable[str] = Settable()

    def __init__(self, threaded: ThreadedConnector) -> None:
        self._threaded = threaded
        self._lifecycle = Lifecycle(threaded, self.__repr__)
        self._prepared: set[str] = set()

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
        name, data, read = question(request_data, queue, Handler)
        options = self._threaded.options(timeout, wire_format)
        requests = await self._requests(vhost)
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
        options = self._threaded.options(timeout, wire_format)
        requests = await self._requests(vhost)
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
        name, data, read = question(request_data, queue, StreamHandler)
        client = self._threaded.client_of(vhost or self.vhost)
        requests = self._lifecycle.binding().requests(client)
        options = self._threaded.options(timeout, wire_format)
        parts = requests.stream(name, data, prefetch_count=prefetch_count, **options)
        return parts if isinstance(queue, str) else AsyncParts(parts, read)

    async def _requests(self, vhost: str) -> AsyncRequests:
        vhost = vhost or self.vhost
        if vhost not in self._prepared:
            await self._prepare(vhost)
        return self._lifecycle.binding().requests(self._threaded.client_of(vhost))

    async def _prepare(self, vhost: str) -> None:
        """Read on a thread what connections to a virtual host need: settings and certificates."""
        await self._lifecycle.binding().calls.run(
            partial(self._threaded.get_connection_params, vhost),
            timeout=_PREPARING,
            what=f"preparing connections to virtual host {vhost!r}",
        )
        self._prepared.add(vhost)
