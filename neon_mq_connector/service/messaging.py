"""A service that sends: messages, requests, and the sign that it is there."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pika.exchange_type import ExchangeType

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.client import RequestClient
from neon_mq_connector.codec import WireFormat
from neon_mq_connector.connections import ConnectionPolicy, Connections
from neon_mq_connector.consumers.delivery_channel import answer_in_kind
from neon_mq_connector.publishing.callers_connection import emit, emit_to
from neon_mq_connector.publishing.encoded_message import prepare, prepare_encoded
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.service.configured import ConfiguredService
from neon_mq_connector.service.shared_clients import (
    ClientKey,
    client_key,
    known_client,
    shared_client,
)

LOG = logging.getLogger("neon_mq_connector.service")

#: By what the setting says.
WIRE_FORMATS = {each.value: each for each in WireFormat}


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
        self._client_keys: dict[tuple[str, str], tuple[object, ClientKey]] = {}

    def _connections(self, vhost: str) -> Connections:
        """Give the connections of a virtual host, which everything here shares."""
        with self._mq_lock:
            closing = self._mq_closing.get(vhost)
            if closing is not None and not closing.is_closed:
                return closing
            connections = self._mq_connections.get(vhost)
            if connections is None or connections.is_closed:
                made = self._open_connections(vhost)
                if self._mq_connections.get(vhost) is connections:  # no signal handler was quicker
                    self._mq_connections[vhost] = made
                connections = self._mq_connections[vhost]
            return connections

    def _open_connections(self, vhost: str) -> Connections:
        settings = self.settings
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
        """Send a message on a connection that the caller holds, and wait until the broker has it.

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
                A connection of the caller's that was used for it is closed then.
        """
        encoded = prepare(request_data, wire_format=WireFormat.LEGACY, expiration=expiration)
        emit(connection, destination_of(exchange, queue, exchange_type), encoded)
        return encoded.message_id

    @classmethod
    def publish_message(
        cls,
        connection: Any,
        request_data: Mapping[str, Any],
        exchange: str | None = "",
        expiration: int = 1000,
    ) -> str:
        """Publish to a fanout exchange on a connection that the caller holds.

        Args:
            connection: as for `emit_mq_message`.
            request_data: what to send.
            exchange: the exchange, declared if it is missing.
            expiration: how long the message may wait in a queue, in milliseconds.

        Returns:
            The message's id.
        """
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
        expiration: int | None = 1000,
    ) -> str:
        """Send a message, and wait until the broker has it in a queue.

        In a callback, a message for the queue that the request names in ``routing_key`` answers it:
        in the format in which it came, and directly where its sender can take that.

        Args:
            request_data: what to send; a ``message_id`` is set as for `emit_mq_message`.
            vhost: the virtual host; the service's own by default.
            connection_props: further arguments of `pika.ConnectionParameters`; the message then
                goes
                over a connection of the moment.
            exchange: the exchange, declared if it is missing; empty for the default one.
            queue: the queue, declared if it is missing.
            exchange_type: the type of the exchange. To a fanout exchange the message is published:
                nobody need be there.
            expiration: how long the message may wait in a queue, in milliseconds; None for ever.

        Returns:
            The message's id.

        Raises:
            TypeError: the data is not a mapping.
            ValueError: the data is empty, or there is neither exchange nor queue.
            UnroutableError: no queue takes it.
            PublishError: the broker did not confirm it; see ``may_have_arrived``.
            ConfigurationError: there are no credentials for the service.
        """
        destination = destination_of(exchange, queue, exchange_type)
        vhost = vhost or self.vhost
        settings = self.settings
        reply = answer_in_kind(destination)
        make = prepare if connection_props else prepare_encoded
        encoded = make(
            request_data,
            wire_format=WIRE_FORMATS[settings.wire_format] if reply is None else reply.wire_format,
            expiration=expiration,
            app_id=self.service_name,
            correlation_id=None if reply is None else reply.correlation_id,
        )
        if connection_props:
            parameters = self._all_parameters(vhost, **connection_props)
            emit_to(parameters, destination, encoded, timeout=settings.publish_timeout)
            return encoded.message_id
        if reply is not None:
            destination = destination_of("", reply.queue, None)
        publisher = self._connections(vhost).publisher
        publisher.publish(destination.message(encoded), timeout=settings.publish_timeout)
        return encoded.message_id

    def request(
        self,
        request_data: Mapping[str, Any],
        queue: str,
        *,
        vhost: str = "",
        timeout: float | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """Ask another service and wait for its answer, with this service's credentials.

        Args:
            request_data: the request; it is not changed.
            queue: the queue of the other service.
            vhost: the virtual host; the service's own by default.
            timeout: how long to wait, in seconds; the setting ``request_timeout`` (30) by default.
            on_part: for an answer in parts: called with each of them, the last included.

        Returns:
            The answer; of one in parts the last.

        Raises:
            RequestTimeoutError: no answer in time.
            RequestLostError: the connection ended; the other service may have got the request.
            UnroutableError: no queue takes the request.
            MQConnectionError: there is no connection.
        """
        settings = self.settings
        return self._client(vhost or self.vhost).request(
            queue,
            request_data,
            timeout=settings.request_timeout if timeout is None else timeout,
            wire_format=WIRE_FORMATS[settings.wire_format],
            on_part=on_part,
        )

    def _client(self, vhost: str) -> RequestClient:
        """Give the request client of a virtual host, which the whole process shares."""
        settings = self.settings
        name = (self.service_name, vhost)
        made_of, key = self._client_keys.get(name, (None, None))
        # other settings, other servers or another user: another client
        client = known_client(key) if key is not None and made_of is settings else None
        if client is None:
            parameters = self._all_parameters(vhost)
            client = shared_client(parameters, owner=self.service_name)
            self._client_keys[name] = (settings, client_key(parameters))
        return client

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
    """Say where a message goes, from the arguments of the methods that send.

    Raises:
        ValueError: there is neither exchange nor queue, or a name is too long.
    """
    kind = getattr(exchange_type, "value", exchange_type) or "direct"
    return _checked_destination(exchange or "", queue or "", str(kind))


@functools.lru_cache(maxsize=1024)
def _checked_destination(exchange: str, queue: str, kind: str) -> Destination:
    return Destination(exchange, queue, kind)
