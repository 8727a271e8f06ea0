"""The methods of `MQConnector` that send messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import pika
from pika.exchange_type import ExchangeType

from neon_mq_connector.api.base import BaseConnector
from neon_mq_connector.service.sending import DEFAULT_EXPIRATION, destination_of, emit


class SendMethods(BaseConnector):
    """Send over connections that all parts of one service share."""

    def create_mq_connection(self, vhost: str = "/", **kwargs: Any) -> pika.BlockingConnection:
        """Open a pika connection that the caller owns and closes.

        Args:
            vhost: the virtual host, as it is.
            kwargs: passed on to `pika.ConnectionParameters`.

        Returns:
            The open connection; to be used by one thread at a time.

        Raises:
            pika.exceptions.AMQPConnectionError: no server answers, or it refused.
            ConfigurationError: there are no credentials for the service.
        """
        return self._mq_core.sending.open_connection(vhost, **kwargs)

    @classmethod
    def emit_mq_message(
        cls,
        connection: Any,
        request_data: Mapping[str, Any],
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int = 1000,
    ) -> str:
        """Send a message to where a connection leads, and wait until the broker has it.

        The connection itself is not used; the message goes over the service's own.

        Args:
            connection: a pika connection, or the ``connection`` of a consumer thread or of a
                callback's channel; any thread may send on it with this method.
            request_data: what to send; it is not changed. A ``message_id`` is set in what is sent
                where it is missing or None: that of ``context.mq``, or else a new one.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange; a fanout exchange has the queue bound to it.
            expiration: how long the message may wait in a queue, in milliseconds.

        Returns:
            The message's id.

        Raises:
            TypeError: the data is not a mapping.
            ValueError: the data is empty, or there is neither exchange nor queue.
            pika.exceptions.ConnectionWrongStateError: the connection is closed.
            UnroutableError: no queue takes the message.
            PublishTimeoutError: the broker did not confirm it in time, that is within the setting
                ``publish_timeout`` where `create_mq_connection` made the connection, or 30 s.
        """
        destination = destination_of(exchange, queue, exchange_type)
        return emit(connection, request_data, destination, expiration)

    @classmethod
    def publish_message(
        cls,
        connection: Any,
        request_data: Mapping[str, Any],
        exchange: str | None = "",
        expiration: int = 1000,
    ) -> str:
        """Publish to a fanout exchange by `emit_mq_message`, whose arguments and errors it has."""
        return cls.emit_mq_message(
            connection,
            request_data,
            exchange=exchange,
            exchange_type=ExchangeType.fanout,
            expiration=expiration,
        )

    def send_message(
        self,
        request_data: Mapping[str, Any],
        vhost: str = "",
        connection_props: Mapping[str, Any] | None = None,
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = DEFAULT_EXPIRATION,
    ) -> str:
        """Send a message, and wait until the broker has it in a queue.

        In a callback, a message for the queue that the request names in ``routing_key`` answers it:
        in the format in which it came, and directly where its sender can take that.

        Args:
            request_data: what to send; a ``message_id`` is set as for `emit_mq_message`.
            vhost: the virtual host; the service's own by default.
            connection_props: further arguments of `pika.ConnectionParameters`; the message then
                goes over a connection of the moment.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange. A message to a fanout exchange may reach no
                queue.
            expiration: how long the message may wait in a queue, in milliseconds; None for ever.
                By default the setting ``message_expiration``.

        Returns:
            The message's id.

        Raises:
            TypeError: the data is not a mapping.
            ValueError: the data is empty, or there is neither exchange nor queue.
            UnroutableError: no queue takes it.
            PublishError: the broker did not confirm it; see ``may_have_arrived``.
            TopologyError: the broker refused to declare the exchange or the queue.
            ConfigurationError: there are no credentials for the service.
        """
        sending = self._mq_core.sending
        outgoing = sending.outgoing(exchange, queue, exchange_type, expiration)
        return sending.send(request_data, vhost, outgoing, connection_props)

    def submit_message(
        self,
        request_data: Mapping[str, Any],
        vhost: str = "",
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = DEFAULT_EXPIRATION,
    ) -> Future[str]:
        """Send a message as `send_message` does, and go on; the confirm comes into a future.

        It waits only where too much is on its way already (32 MB, or 65,536 messages), and for
        what has to be declared first. Messages that one thread submits arrive in that order, but
        for those that were returned because their queue was missing: they are sent again.

        Its arguments are those of `send_message`.

        Returns:
            A future with the message's id, or with the `PublishError` that `send_message` would
            raise. It ends by itself when the setting ``publish_timeout`` is over. Its callbacks run
            on a thread that serves all futures: they should be short. A message that was submitted
            is sent, also when its future is cancelled.

        Raises:
            PublishError: nothing was sent: no connection, or no room within ``publish_timeout``.
            TypeError, ValueError, TopologyError, ConfigurationError: as for `send_message`.
        """
        sending = self._mq_core.sending
        outgoing = sending.outgoing(exchange, queue, exchange_type, expiration)
        return sending.submit(request_data, vhost, outgoing)

    def publish_many(
        self,
        messages: Iterable[Mapping[str, Any]],
        vhost: str = "",
        exchange: str | None = "",
        queue: str | None = "",
        exchange_type: str | ExchangeType = "direct",
        expiration: int | None = DEFAULT_EXPIRATION,
        timeout: float | None = None,
    ) -> list[str]:
        """Send many messages to one place, and wait until the broker has all of them.

        The quickest way to send: none waits for the one before. They arrive in their order. They
        are taken one by one as they are sent; no more than some thousands, and 32 MB, are on their
        way at a time.

        Args:
            messages: what to send, each as for `send_message`; may be a generator. The arguments
                that are not named here are those of `send_message`, too.
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
            TopologyError, ConfigurationError: as for `send_message`.

        Examples:
            >>> ids = connector.publish_many(({"row": row} for row in rows), queue="rows_input")
        """
        sending = self._mq_core.sending
        outgoing = sending.outgoing(exchange, queue, exchange_type, expiration)
        return sending.send_many(messages, vhost, outgoing, timeout)

    def sync(
        self,
        vhost: str | None = None,
        exchange: str | None = None,
        queue: str | None = None,
        request_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish the service's presence, its id and the time, by `publish_message`.

        Args:
            vhost: the virtual host; the service's own by default.
            exchange: the fanout exchange; ``<service>_sync`` by default.
            queue: without a meaning; a subscriber binds its queue itself.
            request_data: what to publish instead.
        """
        presence = request_data or {"service_id": self.service_id, "time": int(time.time())}
        with self.create_mq_connection(vhost or self.vhost) as connection:
            self.publish_message(
                connection,
                request_data=presence,
                exchange=exchange or f"{self.service_name}_sync",
            )
