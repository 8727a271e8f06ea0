"""The methods of `MQConnector` that send requests, and the making of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from neon_mq_connector.api.base import BaseConnector
from neon_mq_connector.client import ReplyStream, RequestSpec
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.handlers.declared import Askable, Handler, StreamHandler

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from neon_mq_connector.config.tuning import Tuning

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
PartT = TypeVar("PartT")


class RequestOptions(TypedDict, total=False):
    """Arguments of all methods that ask; see `MQConnector.request`."""

    vhost: str
    timeout: float | None
    wire_format: WireFormat | str | None


class RequestMethods(BaseConnector):
    """Ask over the connection that all requests of the process share."""

    @overload
    def request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        **options: Unpack[RequestOptions],
    ) -> dict[str, Any]: ...
    @overload
    def request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        **options: Unpack[RequestOptions],
    ) -> AnswerT: ...
    def request(
        self,
        request_data: Any,
        queue: str | Handler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> Any:
        """Ask another service and wait for its answer, with this service's credentials.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service, or a handler of its class (`consumer`): then the
                request and the answer are what that takes and returns.
            vhost: the virtual host; the service's own by default.
            timeout: how long to wait, in seconds; the setting ``request_timeout`` (30) by default.
            wire_format: how to encode the request, ``"json"`` or ``"legacy"``; the setting
                ``wire_format`` by default. A service in another language reads JSON.
            on_part: for an answer in parts: called with each of them, the last included.

        Returns:
            The answer; of one in parts the last.

        Raises:
            RemoteError: the other service has failed, or refuses the request.
            RequestTimeoutError: no answer in time.
            DecodeError: the answer cannot be read, or is not what the handler declares.
            TypeError: the request is not what the handler takes.
            RequestLostError: the connection ended; the other service may have got the request.
            UnroutableError: no queue takes the request.
            MQConnectionError: there is no connection.
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format)
        return self._mq_core.hosts.client(vhost or self.vhost).request(spec, on_part=on_part)

    @overload
    def submit_request(
        self, request_data: Mapping[str, Any], queue: str, **options: Unpack[RequestOptions]
    ) -> Future[dict[str, Any]]: ...
    @overload
    def submit_request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        **options: Unpack[RequestOptions],
    ) -> Future[AnswerT]: ...
    def submit_request(
        self,
        request_data: Any,
        queue: str | Handler[Any, Any, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
    ) -> Any:
        """Ask another service and go on; the answer comes into a future.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service, or a handler, as for `request`.
            vhost: the virtual host; the service's own by default.
            timeout: how long the answer may take, in seconds, as for `request`.
            wire_format: as for `request`.

        Returns:
            A future with the answer (of one in parts the first), or with the error that `request`
            would raise. It ends by itself when the time is up. Its callbacks run on a thread that
            serves all futures: they should be short. When it is cancelled the answer is dropped;
            the other service may do what it was asked all the same.

        Raises:
            RequestLostError, MQConnectionError: there is no connection; nothing was sent.
            ConfigurationError: there are no credentials for the service.

        Examples:
            >>> questions = [host.submit_request({"id": n}, "lookup_input") for n in range(64)]
            >>> answers = [question.result() for question in questions]
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format)
        return self._mq_core.hosts.client(vhost or self.vhost).submit(spec)

    def gather_answers(
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

        Args:
            request_data: the request; it is not changed.
            queue: the routing key; empty for a fanout exchange.
            exchange: the exchange that hands the request to each of the services.
            count: return when so many answers are there; by default when the time is up.
            vhost: the virtual host; the service's own by default.
            timeout: how long to collect, in seconds, as for `request`.
            wire_format: as for `request`.

        Returns:
            The answers in the order in which they came. When the time is up there may be fewer
            than ``count``, or none. Error answers count, but are logged and left out.

        Raises:
            RemoteError: there are only error answers; this is the first.
            ValueError: there is neither a queue nor an exchange.
            RequestLostError: the connection ended; the services may have got the request.
            UnroutableError: no queue takes the request, or there is no such exchange.
            MQConnectionError: there is no connection.
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format, exchange)
        return self._mq_core.hosts.client(vhost or self.vhost).gather(spec, count=count)

    def stream_answer(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> ReplyStream[dict[str, Any]]:
        """Ask another service for an answer in parts, and iterate over them.

        However slow the reader is, no more than ``prefetch_count`` parts are in memory; the others
        wait at the broker.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service.
            vhost: the virtual host; the service's own by default.
            timeout: how long the first part, and each further one, may take, as for `request`.
            wire_format: as for `request`.
            prefetch_count: how many parts are fetched ahead.

        Returns:
            An iterator over the parts, the last of which says ``is_final``. Where it may not be
            read to its end, use it in a ``with`` statement, or `close` it: that deletes its queue.
            While it is read it raises what `request` raises.

        Raises:
            MQConnectionError: there is no connection.

        Examples:
            >>> with host.stream_answer({"to": 1000}, "count_input") as parts:
            ...     for part in parts:
            ...         print(part["number"])
        """
        spec = request_spec(self.settings, request_data, queue, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return client.stream(spec, prefetch_count=prefetch_count)

    def stream(
        self,
        request: RequestT,
        handler: StreamHandler[RequestT, PartT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> ReplyStream[PartT]:
        """Ask a handler that answers in parts, and iterate over what it yields.

        Args:
            request: what the handler takes.
            handler: the handler, by its class.
            vhost: this argument, and those that follow, are as for `stream_answer`.

        Returns:
            An iterator over the parts, to be used as that of `stream_answer`.

        Raises:
            TypeError: the request is not what the handler takes.
            MQConnectionError: there is no connection.
        """
        spec = stream_spec(self.settings, request, handler, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return client.stream(spec, prefetch_count=prefetch_count)


def request_spec(
    settings: Tuning,
    request: Any,
    target: str | Askable[Any, Any, ..., Any],
    timeout: float | None,
    wire_format: WireFormat | str | None,
    exchange: str = "",
    kind: type[Askable[Any, Any, ..., Any]] = Handler,
) -> RequestSpec:
    """Return what is asked of a queue or a handler of some kind; the rest is for all requests.

    Raises:
        TypeError: the handler is not of this kind, answers nothing, or takes something else.
        ValueError: a placeholder in the name of the queue is open, or an argument is wrong.
    """
    read = None
    if not isinstance(target, str):
        if not isinstance(target, kind):
            raise TypeError(
                f"{target!r} cannot be asked so: `request` is for handlers that return their "
                "answer, `stream` for those that yield it"
            )
        if target.signature.types.answer.is_none:
            raise TypeError(f"{target!r} answers nothing; send_message() is for that")
        request, read, target = target.write_request(request), target.read_answer, target.queue
    return RequestSpec(
        target,
        request,
        exchange=exchange,
        timeout=settings.request_timeout if timeout is None else timeout,
        wire_format=WireFormat(wire_format or settings.wire_format),
        read=read,
    )


#: Return what is asked for an answer in parts; see `request_spec`.
stream_spec = partial(request_spec, kind=StreamHandler)
