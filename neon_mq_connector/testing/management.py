"""What tests ask of the management interface, and what they change through it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from neon_mq_connector.operations.management import ManagementAPI, ManagementError

Row = dict[str, Any]

_EVERYTHING = ".*"
_TOTALS_GIVEN_UP_AFTER = 1.0


class ManagementClient(ManagementAPI):
    """Query and change one broker over HTTP: about 2 ms a call, where `rabbitmqctl` takes a second.

    Its user has to have the tag `administrator`.
    """

    def create_vhost(self, name: str, *, tracing: bool = False) -> None:
        """Create a virtual host; one that exists is left as it is, but for the tracing.

        Args:
            name: of the virtual host.
            tracing: publish a copy of each message to the exchange `amq.rabbitmq.trace`.
        """
        self.call("PUT", "vhosts", name, body={"tracing": True} if tracing else {})

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all in it and end its connections; a missing one is fine."""
        self._delete("vhosts", name)

    def create_user(self, name: str, password: str, *, tags: str = "") -> None:
        """Create a user or change its password.

        Args:
            name: of the user.
            password: of the user.
            tags: such as `administrator`, comma separated; none by default, as services have.
        """
        self.call("PUT", "users", name, body={"password": password, "tags": tags})

    def delete_user(self, name: str) -> None:
        """Delete a user; a missing one is fine."""
        self._delete("users", name)

    def permit(
        self,
        user: str,
        vhost: str,
        *,
        configure: str = _EVERYTHING,
        write: str = _EVERYTHING,
        read: str = _EVERYTHING,
    ) -> None:
        """Let a user use a virtual host; each right is a regular expression of names."""
        rights = {"configure": configure, "write": write, "read": read}
        self.call("PUT", "permissions", vhost, user, body=rights)

    def set_policy(
        self, vhost: str, name: str, pattern: str, definition: Mapping[str, object]
    ) -> None:
        """Set a policy for the queues and exchanges whose names match."""
        body = {"pattern": pattern, "definition": dict(definition), "apply-to": "all"}
        self.call("PUT", "policies", vhost, name, body=body)

    def queues(self, vhost: str) -> list[Row]:
        """List the queues as they are now: name, properties, arguments, messages.

        Consumers and rates are not in it, since the broker gathers them only once a second: see
        `consumers` and `queue`.
        """
        # RabbitMQ waits a second for its queues to tell their totals, then leaves out those that
        # have not. A node that has just started does this once.
        for _ in range(3):
            began = time.monotonic()
            rows: list[Row] = self.call(
                "GET", "queues", vhost, query="disable_stats=true&enable_queue_totals=true"
            )
            if time.monotonic() - began < _TOTALS_GIVEN_UP_AFTER:
                break
        return rows

    def queue(self, vhost: str, name: str) -> Row:
        """Return everything about one queue; figures in it may be a second old."""
        row: Row = self.call("GET", "queues", vhost, name)
        return row

    def exchanges(self, vhost: str) -> list[Row]:
        """List the exchanges, those that every virtual host has included."""
        rows: list[Row] = self.call("GET", "exchanges", vhost)
        return rows

    def consumers(self, vhost: str) -> list[Row]:
        """List the consumers as they were at most a second ago."""
        rows: list[Row] = self.call("GET", "consumers", vhost)
        return rows

    def connections(self, vhost: str | None = None) -> list[Row]:
        """List the connections of one virtual host, or all, as they were at most a second ago."""
        where = ("connections",) if vhost is None else ("vhosts", vhost, "connections")
        rows: list[Row] = self.call("GET", *where)
        return rows

    def close_connection(self, name: str) -> None:
        """End a connection from the broker's side: its client is told 320. No error if gone."""
        self._delete("connections", name)

    def _delete(self, *path: str) -> None:
        try:
            self.call("DELETE", *path)
        except ManagementError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
