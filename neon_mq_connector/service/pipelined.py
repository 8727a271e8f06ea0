"""A service that sends many messages without waiting for each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from pika.exchange_type import ExchangeType

from neon_mq_connector.consumers.delivery_channel import answer_in_kind
from neon_mq_connector.publishing.batch import publish_all
from neon_mq_connector.publishing.encoded_message import EncodedMessage, prepare_encoded
from neon_mq_connector.publishing.futures import submit
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.service.asking import AskingService
from neon_mq_connector.service.messaging import WIRE_FORMATS, destination_of


class PipelinedService(AskingService):
    """Send over the same connection as `send_message`, many messages at a time."""

    def submit_message(
        self,
        request_data: Mapping[str, Any],
        vhost: str = "",
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = 1000,
    ) -> Future[str]:
        """Send a message as `send_message` does, and go on; the confirm comes into a future.

        It waits only where too much is on its way already (32 MB, or 65,536 messages), and for
        what has to be declared first. Messages that one thread submits arrive in that order, but
        for those that were returned because their queue was missing: they are sent again.

        Args:
            request_data: what to send; a ``message_id`` is set as for `send_message`.
            vhost: the virtual host; the service's own by default.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange.
            expiration: how long the message may wait in a queue, in milliseconds; None for ever.

        Returns:
            A future with the message's id, or with the `PublishError` that `send_message` would
            raise. It ends by itself when the setting ``publish_timeout`` is over. Its callbacks run
            on a thread that serves all futures: they should be short. A message that was submitted
            is sent, also when its future is cancelled.

        Raises:
            TypeError, ValueError: as for `send_message`.
            PublishError: nothing was sent: no connection, or no room within ``publish_timeout``.
            TopologyError: the broker refused to declare the exchange or the queue.
            ConfigurationError: there are no credentials for the service.
        """
        destination, prepare = self._sending(
            destination_of(exchange, queue, exchange_type), expiration
        )
        connections = self._connections(vhost or self.vhost)
        return submit(
            connections.publisher,
            connections.futures,
            destination,
            prepare(request_data),
            timeout=self.settings.publish_timeout,
        )

    def publish_many(
        self,
        messages: Iterable[Mapping[str, Any]],
        vhost: str = "",
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = 1000,
        timeout: float | None = None,
    ) -> list[str]:
        """Send many messages to one place, and wait until the broker has all of them.

        The quickest way to send: none waits for the one before. They arrive in their order. They
        are taken one by one as they are sent; no more than some thousands, and 32 MB, are on their
        way at a time.

        Args:
            messages: what to send, each as for `send_message`; may be a generator.
            vhost: the virtual host; the service's own by default.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange.
            expiration: how long each may wait in a queue, in milliseconds; None for ever.
            timeout: how long the broker may take no message and confirm none, in seconds; the
                setting ``publish_timeout`` by default.

        Returns:
            The messages' ids, in order.

        Raises:
            PublishBatchError: not all are confirmed. Its ``failures`` say for each that is not,
                by its number, why, and whether it may have arrived; all others in its
                ``message_ids`` are confirmed. When one cannot be sent, those after it are not
                taken.
            TypeError, ValueError: a message is no dict, or is empty; those before it are confirmed.
                So they are when ``messages`` itself raises something, which is passed on.
            TopologyError: the broker refused to declare the exchange or the queue.
            ConfigurationError: there are no credentials for the service.

        Example:
            >>> ids = connector.publish_many(({"row": row} for row in rows), queue="rows_input")
        """
        if timeout is None:
            timeout = self.settings.publish_timeout
        elif not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0")
        destination, prepare = self._sending(
            destination_of(exchange, queue, exchange_type), expiration
        )
        connections = self._connections(vhost or self.vhost)
        return publish_all(
            connections.publisher,
            connections.futures,
            destination,
            map(prepare, messages),
            timeout=timeout,
        )

    def _sending(
        self, destination: Destination, expiration: int | None
    ) -> tuple[Destination, Callable[[Mapping[str, Any]], EncodedMessage]]:
        """Say where messages go and how they are made; an answer is made and goes as its kind."""
        reply = answer_in_kind(destination)
        if reply is None:
            wire_format, correlation_id = WIRE_FORMATS[self.settings.wire_format], None
        else:
            wire_format, correlation_id = reply.wire_format, reply.correlation_id
            destination = destination_of("", reply.queue, None)
        return destination, functools.partial(
            prepare_encoded,
            wire_format=wire_format,
            expiration=expiration,
            app_id=self.service_name,
            correlation_id=correlation_id,
        )
