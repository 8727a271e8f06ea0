"""Send the messages of a service: choose destination and format, publish, wait for the confirm."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

import pika
import pika.exceptions as pika_errors
from pika.exchange_type import ExchangeType

from neon_mq_connector import tracing
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.consumer_thread import type_name
from neon_mq_connector.consumers.delivery_channel import answer_in_kind
from neon_mq_connector.control.probe import open_blocking
from neon_mq_connector.envelope import is_reply_name
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.batch import publish_all
from neon_mq_connector.publishing.encoded_message import EncodedMessage, encode_message
from neon_mq_connector.publishing.futures import submit
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.service.configured import ConfiguredService, server_parameters
from neon_mq_connector.service.shared_clients import shared_client
from neon_mq_connector.service.virtual_hosts import VirtualHosts

LOG = logging.getLogger("neon_mq_connector.messaging")

#: For a connection of the moment to end, in seconds.
_CLOSE_TIMEOUT = 1.0
#: How long to wait for a broker where nothing says so, in seconds: the default of the setting
#: ``publish_timeout``.
_PUBLISH_TIMEOUT = 30.0
#: The attribute of a connection that this library has made: the connections of the service that it
#: was made for, and how long a message may take, in seconds.
_OWNER = "_neon_mq_owner"
#: Of how many queues the log tells that messages to them expire; names may be made up for each.
_MOST_TOLD = 256
#: By what the setting says.
WIRE_FORMATS = {each.value: each for each in WireFormat}


class _Default(int):
    """The default of an argument, which is told from an equal number of the caller."""


#: How long messages wait in a queue, in milliseconds, unless the setting ``message_expiration``
#: says otherwise; a number, since services override what has it for an argument.
DEFAULT_EXPIRATION: int = _Default(1000)


#: Where messages go, and what encodes each of them.
Outgoing: TypeAlias = tuple[Destination, Callable[[Mapping[str, Any]], EncodedMessage]]


class Sending:
    """Send over the connections of a service; any thread may."""

    def __init__(self, service: ConfiguredService, hosts: VirtualHosts) -> None:
        self._service = service
        self._hosts = hosts
        self._told: set[str] = set()  # only added to, so that any thread may

    def outgoing(
        self,
        exchange: str | None,
        queue: str | None,
        exchange_type: str | ExchangeType,
        expiration: int | None,
    ) -> Outgoing:
        """Return where messages go and how they are encoded; in a callback they may be answers."""
        settings = self._service.settings
        destination = destination_of(exchange, queue, exchange_type)
        reply = answer_in_kind(destination)
        if isinstance(expiration, _Default):
            expiration = settings.message_expiration
            if destination.queue not in self._told and reply is None and not exchange:
                self._tell_of_expiration(destination.queue, expiration)
        if reply is None:
            wire_format, correlation_id = WIRE_FORMATS[settings.wire_format], None
        else:
            wire_format, correlation_id = reply.wire_format, reply.correlation_id
            destination = destination_of("", reply.queue, None)
        encode = functools.partial(
            encode_message,
            wire_format=wire_format,
            expiration=expiration,
            app_id=self._service.service_name,
            correlation_id=correlation_id,
        )
        return destination, encode

    def send(
        self,
        request_data: Mapping[str, Any],
        vhost: str,
        outgoing: Outgoing,
        connection_props: Mapping[str, Any] | None,
    ) -> str:
        """Send a message and wait for its confirm; see `MQConnector.send_message`."""
        destination, encode = outgoing
        vhost, timeout = vhost or self._service.vhost, self._service.settings.publish_timeout
        if connection_props:
            connections = self._hosts.new_connections(vhost, **connection_props)
        else:
            connections = self._hosts.connections(vhost)
        try:
            with tracing.publishing(destination.exchange, destination.queue):
                encoded = encode(request_data)
                connections.publisher.publish(destination.message(encoded), timeout=timeout)
        finally:
            if connection_props:
                connections.close(_CLOSE_TIMEOUT)
        return encoded.message_id

    def submit(
        self, request_data: Mapping[str, Any], vhost: str, outgoing: Outgoing
    ) -> Future[str]:
        """Send a message whose confirm comes into a future; see `MQConnector.submit_message`."""
        destination, encode = outgoing
        connections = self._hosts.connections(vhost or self._service.vhost)

        def send() -> Future[str]:
            return submit(
                connections.publisher,
                connections.futures,
                destination,
                encode(request_data),
                timeout=self._service.settings.publish_timeout,
            )

        return tracing.submitting("publish", destination.exchange, destination.queue, send)

    def send_many(
        self,
        messages: Iterable[Mapping[str, Any]],
        vhost: str,
        outgoing: Outgoing,
        timeout: float | None,
    ) -> list[str]:
        """Send messages and wait for all confirms; see `MQConnector.publish_many`."""
        destination, encode = outgoing
        if timeout is None:
            timeout = self._service.settings.publish_timeout
        elif not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0")
        publisher = self._hosts.connections(vhost or self._service.vhost).publisher
        with tracing.publishing(destination.exchange, destination.queue, single=False):
            return publish_all(publisher, destination, map(encode, messages), timeout=timeout)

    def open_connection(self, vhost: str, **kwargs: Any) -> pika.BlockingConnection:
        """Open a connection of the caller's, and note for `emit` which service it was made for."""
        connection = open_blocking(server_parameters(self._service, vhost, **kwargs))
        own = None if kwargs else self._hosts.connections(vhost)
        setattr(connection, _OWNER, (own, self._service.settings.publish_timeout))
        return connection

    def _tell_of_expiration(self, queue: str, expiration: int | None) -> None:
        """Log once that what nothing consumes is soon gone; people look for it in the queue."""
        told = self._told
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


def destination_of(
    exchange: str | None, queue: str | None, exchange_type: str | ExchangeType | None
) -> Destination:
    """Return where a message goes, from the arguments of the methods that send.

    Raises:
        ValueError: there is neither exchange nor queue, or a name is too long.
    """
    return _checked_destination(exchange or "", queue or "", type_name(exchange_type))


#: Names are checked once.
_checked_destination = functools.lru_cache(maxsize=1024)(Destination)


def emit(
    connection: Any, request_data: Mapping[str, Any], destination: Destination, expiration: int
) -> str:
    """Send a message to where a connection leads, and wait until the broker has it.

    A pika connection belongs to one thread, does not tell to which, and has no time-outs. So it is
    not used itself: the message goes over connections of the service that it was made for, or else
    over those that the process keeps for its parameters. The rest is as for
    `MQConnector.emit_mq_message`.
    """
    with tracing.publishing(destination.exchange, destination.queue):
        encoded = encode_message(request_data, wire_format=WireFormat.LEGACY, expiration=expiration)
        if not connection.is_open:
            raise pika_errors.ConnectionWrongStateError(
                f"{destination}: a message needs an open connection; this one is closed"
            )
        connections, timeout = _connections_of(connection)
        connections.publisher.publish(destination.message(encoded), timeout=timeout)
    return encoded.message_id


def _connections_of(connection: Any) -> tuple[Connections, float]:
    """Return the connections by which a message goes, and how long it may take, in seconds."""
    if not isinstance(connection, (pika.BlockingConnection, pika.connection.Connection)):
        return connection.connections, _PUBLISH_TIMEOUT
    connections, timeout = getattr(connection, _OWNER, (None, _PUBLISH_TIMEOUT))
    if connections is None or connections.is_closed:
        # a blocking connection has its parameters in its implementation only
        holder: Any = getattr(connection, "_impl", connection)
        connections = shared_client([holder.params]).connections
    return connections, timeout
