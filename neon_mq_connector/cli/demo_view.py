"""What the broker says about the demo's queues and connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neon_mq_connector.cli.connection import Connection
from neon_mq_connector.testing import ManagementClient


@dataclass(frozen=True)
class QueueRow:
    """A queue as the broker describes it; None where it does not tell."""

    name: str
    kind: str | None
    consumers: int
    messages: int
    delivered: int | None


@dataclass(frozen=True)
class ConnectionRow:
    """A connection as the broker describes it."""

    name: str
    user: str
    channels: int


@dataclass(frozen=True)
class BrokerView:
    """A look at the broker: over its management interface where there is one, else over AMQP.

    Attributes:
        connection: the broker.
        management: its management interface, if it may be asked.
        queues: what was seen.
        connections: what was seen; always empty without a management interface.
    """

    connection: Connection
    management: ManagementClient | None
    queues: list[QueueRow] = field(default_factory=list)
    connections: list[ConnectionRow] = field(default_factory=list)

    def version(self) -> str:
        """Tell the broker's version; empty without a management interface."""
        if self.management is None:
            return ""
        return str(self.management.call("GET", "overview")["rabbitmq_version"])

    def taken(self, queues: Collection[str], owners: Collection[str]) -> BrokerView:
        """Look again.

        Args:
            queues: the names of the queues to look for.
            owners: the names that connections begin with.

        Returns:
            What there is of them now. Figures may be a second old.
        """
        if self.management is None:
            return replace(self, queues=self._ask_for(queues))
        vhost = self.connection.vhost
        consumers = Counter(each["queue"]["name"] for each in self.management.consumers(vhost))
        rows = [
            self._queue_row(row, consumers[row["name"]])
            for row in self.management.queues(vhost)
            if row["name"] in queues
        ]
        connections = [
            ConnectionRow(name, str(row.get("user", "")), int(row.get("channels", 0)))
            for row in self.management.connections(vhost)
            if (name := str(row.get("user_provided_name", ""))).startswith(tuple(owners))
        ]
        return replace(
            self,
            queues=sorted(rows, key=lambda row: row.name),
            connections=sorted(connections, key=lambda row: row.name),
        )

    def has_heard_of(
        self, queues: Collection[str], owners: Collection[str], delivered: Mapping[str, int]
    ) -> bool:
        """Tell whether the broker knows of everything: it gathers once a second.

        Args:
            queues: the names of the queues.
            owners: the names that connections begin with.
            delivered: how many messages a queue has delivered at least.
        """
        if {row.name for row in self.queues} != set(queues):
            return False
        if not all(row.consumers for row in self.queues):
            return False
        if self.management is None:
            return True
        counts = {row.name: row.delivered or 0 for row in self.queues}
        return all(counts[name] >= count for name, count in delivered.items()) and all(
            any(row.name.startswith(owner) and row.channels for row in self.connections)
            for owner in owners
        )

    def _ask_for(self, queues: Collection[str]) -> list[QueueRow]:
        with self.connection.control() as control:
            found = [self.connection.find_queue(control, name) for name in queues]
        return [
            QueueRow(each.name, None, each.consumers, each.messages, None)
            for each in found
            if each is not None
        ]

    def _queue_row(self, row: dict[str, Any], consumers: int) -> QueueRow:
        assert self.management is not None
        details = self.management.queue(self.connection.vhost, row["name"])
        kind = "durable" if row.get("durable") else "transient"
        if "x-expires" in row.get("arguments", {}):
            kind += ", expires"
        stats = details.get("message_stats", {})
        return QueueRow(
            row["name"],
            kind,
            consumers,
            int(row.get("messages", 0)),
            int(stats.get("deliver_get", 0)),
        )
