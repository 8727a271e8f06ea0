"""A service that sends: one message, many, and the sign that it is there."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import pika
from pika.exchange_type import ExchangeType

from neon_mq_connector import tracing
from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import ConnectionPolicy, Connections
from neon_mq_connector.consumers.delivery_channel import answer_in_kind
from neon_mq_connector.control.probe import open_blocking
from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.batch import publish_all
from neon_mq_connector.publishing.encoded_message import EncodedMessage, encode_message
from neon_mq_connector.publishing.futures import submit
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.service.callers_connection import emit, remember_owner
from neon_mq_connector.service.configured import ConfiguredService

#: For a connection of the moment to end, in seconds.
_CLOSE_TIMEOUT = 1.0
#: Of how many queues the log tells that messages to them expire; names may be made up for each.
_MOST_TOLD = 256
#: By what the setting says.
WIRE_FORMATS = {each.value: each for each in WireFormat}
LOG = logging.getLogger("neon_mq_connector.messaging")


class _Default(int):
    """A number that an argument has unless its caller gives another."""


#: How long messages wait in a queue, in milliseconds, unless the setting ``message_expiration``
#: says otherwise; a number, since services override what has it for an argument.
DEFAULT_EXPIRATION: int = _Default(1000)


class MessagingService(ConfiguredService):
    """Send over connections that all parts of one service share.

    `_mq_lock` owns which connections there are, and whether the service runs. What a stop is about
    to close stands in `_mq_closing` until then: callbacks that end meanwhile may send.
    """

    def __init__(self, config: Mapping[str, Any] | None, service_name: str) -> None:
        super().__init__(config, service_name)
        self._mq_lock = threading.RLock()
        self._mq_connections: dict[str, Connections] = {}
        self._mq_closing: dict[str, Connections] = {}
        self._mq_told: set[str] = set()

    def _connections(self, vhost: str) -> Connections:
        """Return the connections of a virtual host, which all parts of the service share."""
        with self._mq_lock:
            closing = self._mq_closing.get(vhost)
            if closing is not None and not closing.is_closed:
                return closing
            connections = self._mq_connections.get(vhost)
            if connections is None or connections.is_closed:
                connections = self._mq_connections[vhost] = self._open_connections(vhost)
            return connections

    def _open_connections(self, vhost: str) -> Connections:
        settings = self.settings
        tracing.begin(wanted=settings.tracing)
        return Connections(
            self._all_parameters(vhost),
            owner=self.service_name,
            policy=ConnectionPolicy(
                operation_timeout=settings.operation_timeout,
                backoff=OutageBackoff(
                    floor=settings.reconnect_delay_min, ceiling=settings.reconnect_delay_max
                ),
            ),
        )

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
        connection = open_blocking(self._all_parameters(vhost, **kwargs))
        own = None if kwargs else self._connections(vhost)
        remember_owner(connection, own, self.settings.publish_timeout)
        return connection

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
        with tracing.publishing(destination.exchange, destination.queue):
            encoded = encode_message(
                request_data, wire_format=WireFormat.LEGACY, expiration=expiration
            )
            emit(connection, destination, encoded)
        return encoded.message_id

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
        destination, encode = self._sending(exchange, queue, exchange_type, expiration)
        vhost, timeout = vhost or self.vhost, self.settings.publish_timeout
        if connection_props:
            parameters = self._all_parameters(vhost, **connection_props)
            connections = Connections(parameters, owner=self.service_name)
        else:
            connections = self._connections(vhost)
        try:
            with tracing.publishing(destination.exchange, destination.queue):
                encoded = encode(request_data)
                connections.publisher.publish(destination.message(encoded), timeout=timeout)
        finally:
            if connection_props:
                connections.close(_CLOSE_TIMEOUT)
        return encoded.message_id

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
        destination, encode = self._sending(exchange, queue, exchange_type, expiration)
        connections = self._connections(vhost or self.vhost)

        def send() -> Future[str]:
            return submit(
                connections.publisher,
                connections.futures,
                destination,
                encode(request_data),
                timeout=self.settings.publish_timeout,
            )

        return tracing.submitting("publish", destination.exchange, destination.queue, send)

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
        if timeout is None:
            timeout = self.settings.publish_timeout
        elif not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0")
        destination, encode = self._sending(exchange, queue, exchange_type, expiration)
        publisher = self._connections(vhost or self.vhost).publisher
        with tracing.publishing(destination.exchange, destination.queue, single=False):
            return publish_all(publisher, destination, map(encode, messages), timeout=timeout)

    def _sending(
        self,
        exchange: str | None,
        queue: str | None,
        exchange_type: str | ExchangeType,
        expiration: int | None,
    ) -> tuple[Destination, Callable[[Mapping[str, Any]], EncodedMessage]]:
        """Return where messages go and how they are encoded; in a callback they may be answers."""
        destination = destination_of(exchange, queue, exchange_type)
        reply = answer_in_kind(destination)
        if isinstance(expiration, _Default):
            expiration = self.settings.message_expiration
            if destination.queue not in self._mq_told and reply is None and not exchange:
                self._tell_of_expiration(destination.queue, expiration)
        if reply is None:
            wire_format, correlation_id = WIRE_FORMATS[self.settings.wire_format], None
        else:
            wire_format, correlation_id = reply.wire_format, reply.correlation_id
            destination = destination_of("", reply.queue, None)
        return destination, functools.partial(
            encode_message,
            wire_format=wire_format,
            expiration=expiration,
            app_id=self.service_name,
            correlation_id=correlation_id,
        )

    def _tell_of_expiration(self, queue: str, expiration: int | None) -> None:
        """Log once that what nothing consumes is soon gone; people look for it in the queue."""
        told = self._mq_told  # only added to, so that any thread may
        if expiration is None or len(told) >= _MOST_TOLD or is_reply_name(queue):
            return
        told.add(queue)
        LOG.info(
            "messages to queue %r expire after %s ms unless they are consumed; expiration=None, or "
            "the setting message_expiration, keeps them",
            queue,
            f"{expiration:,}",
            extra=log_fields(queue),
        )

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


def destination_of(
    exchange: str | None, queue: str | None, exchange_type: str | ExchangeType | None
) -> Destination:
    """Return where a message goes, from the arguments of the methods that send.

    Raises:
        ValueError: there is neither exchange nor queue, or a name is too long.
    """
    kind = getattr(exchange_type, "value", exchange_type) or "direct"
    return _checked_destination(exchange or "", queue or "", str(kind))


#: Names are checked once.
_checked_destination = functools.lru_cache(maxsize=1024)(Destination)
