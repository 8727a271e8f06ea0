"""A service that asks others: many at once, several services, or for an answer in parts."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from neon_mq_connector.client import ReplyStream
from neon_mq_connector.service.messaging import WIRE_FORMATS, MessagingService


class AskingService(MessagingService):
    """Ask without waiting for one answer before the next question.

    What `request` does for one answer is here for many; all go over the same connection.
    """

    def submit_request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
    ) -> Future[dict[str, Any]]:
        """Ask another service and go on; the answer comes into a future.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service.
            vhost: the virtual host; the service's own by default.
            timeout: how long the answer may take, in seconds; the setting ``request_timeout`` (30)
                by default.

        Returns:
            A future with the answer (of one in parts the first), or with the error that `request`
            would raise. It ends by itself when the time is up. Its callbacks run on a thread that
            serves all futures: they should be short. When it is cancelled the answer is dropped;
            the other service may do what it was asked all the same.

        Raises:
            RequestLostError, MQConnectionError: there is no connection; nothing was sent.
            ConfigurationError: there are no credentials for the service.

        Example:
            >>> questions = [host.submit_request({"id": n}, "lookup_input") for n in range(64)]
            >>> answers = [question.result() for question in questions]
        """
        settings = self.settings
        return self._client(vhost or self.vhost).submit(
            queue,
            request_data,
            timeout=settings.request_timeout if timeout is None else timeout,
            wire_format=WIRE_FORMATS[settings.wire_format],
        )

    def gather_answers(
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
            RequestLostError: the connection ended; the services may have got the request.
            UnroutableError: no queue takes the request, or there is no such exchange.
            MQConnectionError: there is no connection.
        """
        if not queue and not exchange:
            raise ValueError("a request needs a queue or an exchange to go to; both are empty")
        settings = self.settings
        return self._client(vhost or self.vhost).gather(
            queue,
            request_data,
            count=count,
            timeout=settings.request_timeout if timeout is None else timeout,
            exchange=exchange,
            wire_format=WIRE_FORMATS[settings.wire_format],
        )

    def stream_answer(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        prefetch_count: int = 32,
    ) -> ReplyStream:
        """Ask another service for an answer in parts, and iterate over them.

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
            An iterator over the parts, the last of which says ``is_final``. Where it may not be
            read to its end, use it in a ``with`` statement, or `close` it: that deletes its queue.
            While it is read it raises what `request` raises.

        Raises:
            MQConnectionError: there is no connection.

        Example:
            >>> with host.stream_answer({"to": 1000}, "count_input") as parts:
            ...     for part in parts:
            ...         print(part["number"])
        """
        settings = self.settings
        return self._client(vhost or self.vhost).stream(
            queue,
            request_data,
            timeout=settings.request_timeout if timeout is None else timeout,
            prefetch_count=prefetch_count,
            wire_format=WIRE_FORMATS[settings.wire_format],
        )
