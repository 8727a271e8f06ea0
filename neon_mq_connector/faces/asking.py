"""What a connector has to ask others: for one answer, for those of several services, for parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

from neon_mq_connector.client import ReplyStream
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.handlers.declared import Askable, Handler, StreamHandler
from neon_mq_connector.handlers.parts import Parts
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.core import Core
from neon_mq_connector.threads.futures import converted

if TYPE_CHECKING:
    from neon_mq_connector.config.tuning import Tuning

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
PartT = TypeVar("PartT")


class AsksServices(ConfiguredService):
    """Ask over the connection that all requests of the process share."""

    _mq_core: Core

    @overload
    def request(
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
    def request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
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
        options = request_options(self.settings, timeout, wire_format)
        name, data, read = prepare_request(request_data, queue, Handler)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return read(client.request(name, data, on_part=on_part, **options))

    @overload
    def submit_request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
    ) -> Future[dict[str, Any]]: ...

    @overload
    def submit_request(
        self,
        request_data: RequestT,
        queue: Handler[RequestT, AnswerT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
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
        options = request_options(self.settings, timeout, wire_format)
        name, data, read = prepare_request(request_data, queue, Handler)
        future = self._mq_core.hosts.client(vhost or self.vhost).submit(name, data, **options)
        return future if isinstance(queue, str) else converted(future, read)

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
        options = request_options(self.settings, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return client.gather(queue, request_data, count=count, exchange=exchange, **options)

    def stream_answer(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> ReplyStream:
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
        options = request_options(self.settings, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return client.stream(queue, request_data, prefetch_count=prefetch_count, **options)

    def stream(
        self,
        request: RequestT,
        handler: StreamHandler[RequestT, PartT, ..., Any],
        *,
        vhost: str = "",
        timeout: float | None = None,
        wire_format: WireFormat | str | None = None,
        prefetch_count: int = 32,
    ) -> Parts[PartT]:
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
        name, data, read = prepare_request(request, handler, StreamHandler)
        options = request_options(self.settings, timeout, wire_format)
        client = self._mq_core.hosts.client(vhost or self.vhost)
        return Parts(client.stream(name, data, prefetch_count=prefetch_count, **options), read)


def request_options(
    settings: Tuning, timeout: float | None, wire_format: WireFormat | str | None
) -> dict[str, Any]:
    """Return the arguments that every request has, by default from the settings."""
    return {
        "timeout": settings.request_timeout if timeout is None else timeout,
        "wire_format": WireFormat(wire_format or settings.wire_format),
    }


def prepare_request(
    request: Any, target: str | Askable[Any, Any, ..., Any], kind: type[Askable[Any, Any, ..., Any]]
) -> tuple[str, Any, Callable[[dict[str, Any]], Any]]:
    """Return the queue, the dict, and what reads the answer, of a question to a queue or handler.

    Raises:
        TypeError: the handler is not of this kind, answers nothing, or takes something else.
        ValueError: a placeholder in the name of the queue is open.
    """
    if isinstance(target, str):
        return target, request, _as_it_is
    if not isinstance(target, kind):
        raise TypeError(
            f"{target!r} cannot be asked so: `request` is for handlers that return their answer, "
            "`stream` for those that yield it"
        )
    if target.signature.types.answer.is_none:
        raise TypeError(f"{target!r} answers nothing; send_message() is for that")
    return target.queue, target.write_request(request), target.read_answer


def _as_it_is(answer: dict[str, Any]) -> dict[str, Any]:
    return answer
