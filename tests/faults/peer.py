"""The other side of a scenario: plain pika straight to the broker, past all faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import BasicProperties

from neon_mq_connector.testing import PrivateBroker
from tests.support.accounting import Account, Ledger, take_all
from tests.support.polling import eventually

_PERSISTENT = 2
DEAD = ".dead"


class Peer:
    """Send, count and look, on a connection of the moment for each call.

    Args:
        parameters: how to reach the virtual host.
        broker: the broker itself.
        ledger: where what is sent is noted.
    """

    def __init__(
        self, parameters: pika.ConnectionParameters, broker: PrivateBroker, ledger: Ledger
    ) -> None:
        self.parameters = parameters
        self.vhost: str = parameters.virtual_host
        self.broker = broker
        self.ledger = ledger

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Open a channel, as an ordinary client has it."""
        connection = pika.BlockingConnection(self.parameters)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def declare(self, queue: str, **properties: Any) -> str:
        """Declare a queue: durable, unless the properties say otherwise."""
        with self.channel() as channel:
            channel.queue_declare(queue, **{"durable": True, **properties})
        return queue

    def send(
        self,
        queue: str,
        count: int,
        *,
        prefix: str = "m",
        headers: Mapping[str, Any] | None = None,
        reply_to: str | None = None,
    ) -> list[str]:
        """Put persistent messages into a queue that exists, confirmed, and return their ids."""
        ids = [f"{prefix}{number}" for number in range(count)]
        with self.channel() as channel:
            channel.confirm_delivery()
            for each in ids:
                properties = BasicProperties(
                    message_id=each,
                    delivery_mode=_PERSISTENT,
                    headers=dict(headers) if headers else None,
                    reply_to=reply_to,
                )
                self.ledger.sending(each)
                channel.basic_publish("", queue, each.encode(), properties, mandatory=True)
                self.ledger.confirmed(each)
        return ids

    def take_all(self, queue: str) -> list[tuple[BasicProperties, bytes]]:
        """Empty a queue, which may be missing."""
        with self.channel() as channel:
            return list(take_all(channel, queue))

    def ids_in(self, queue: str) -> list[str]:
        """Empty a queue, which may be missing, and return the ids of what was in it."""
        return [str(properties.message_id) for properties, _ in self.take_all(queue)]

    def consumers(self, queue: str) -> int:
        """Return how many consumers the broker says a queue has; 0 for one that is missing."""
        try:
            with self.channel() as channel:
                frame = channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return 0
        return int(frame.method.consumer_count)

    def counts(self, queue: str) -> tuple[int, int]:
        """Return how many messages of a queue are ready and unacked, as they are now."""
        for row in self.broker.list_queues(self.vhost):
            if row["name"] == queue and "messages_unacknowledged" in row:
                return int(row["messages_ready"]), int(row["messages_unacknowledged"])
        return 0, 0

    def connection_names(self, ending: str = "") -> list[str]:
        """Return the broker's names of the connections whose own name ends like this."""
        return [
            row["name"]
            for row in self.broker.list_connections(self.vhost)
            if str(row.get("client_properties", {}).get("connection_name", "")).endswith(ending)
        ]

    def wait_until_handled(self, ids: list[str]) -> None:
        """Wait until each of these messages was handled."""
        wanted = set(ids)
        eventually(
            lambda: wanted <= self.ledger.handled_ids,
            what=f"all of {len(wanted)} messages are handled",
        )

    def wait_until_settled(self, queue: str) -> None:
        """Wait until nothing is left in a queue, neither ready nor unacked."""
        eventually(lambda: self.counts(queue) == (0, 0), what=f"nothing is left in {queue}")

    def close_the_books(self, *queues: str) -> Account:
        """Count what is in these queues and in their dead-letter queues, and draw the sums.

        They are emptied: nothing may consume them any more.
        """
        for queue in queues:
            eventually(
                lambda queue=queue: self.counts(queue)[1] == 0,  # type: ignore[misc]
                what="the broker has everything back",
            )
        ready = [each for queue in queues for each in self.ids_in(queue)]
        parked = [each for queue in queues for each in self.ids_in(queue + DEAD)]
        account = self.ledger.close(parked=parked, ready=ready)
        account.check()
        return account
