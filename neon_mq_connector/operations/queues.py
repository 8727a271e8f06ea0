"""The queues of a virtual host: who consumes them, what waits in them, what is parked.

The broker's management interface lists them. Without it queues have to be named, and each is looked
up by a passive declare, which needs no permission and knows no unacked messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pika
from pika.spec import NOT_FOUND, RESOURCE_LOCKED

from neon_mq_connector.consumers.registration import dead_queue_name
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import ChannelEvents
from neon_mq_connector.operations.management import ManagementAPI, ManagementError
from neon_mq_connector.topology import Queue, QueueStatus, Refusal

DEAD_SUFFIX = ".dead"
_TOTALS = "disable_stats=true&enable_queue_totals=true"
_GATHERED = "columns=name,consumers,message_stats"
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_TIMEOUT = 15.0
_CLOSE_TIMEOUT = 3.0


class QueueNotFoundError(MQError):
    """There is no queue of that name in the virtual host."""


@dataclass(frozen=True)
class QueueState:
    """The state of a queue, as the broker reports it.

    Attributes:
        queue: its name.
        consumers: how many consumers it has.
        ready: how many messages wait in it.
        unacked: how many are delivered and not settled; None if that is not known.
        parked: how many messages are in its dead-letter queue; in one itself, as many as are ready.
        type: ``classic``, ``quorum`` or ``stream``; None if that is not known.
        published: messages a second that come in; None if that is not known.
        delivered: messages a second that go out; None if that is not known.
    """

    queue: str
    consumers: int = 0
    ready: int = 0
    unacked: int | None = None
    parked: int = 0
    type: str | None = None
    published: float | None = None
    delivered: float | None = None


class QueueReader:
    """Read the states of queues, at each call anew; used by one thread at a time.

    Args:
        parameters: how to reach the broker, one entry per server.
        management: the URL of its management interface; by default the usual port of its host.
        timeout: how long the broker may take for an answer, in seconds.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(
        self,
        parameters: Sequence[pika.ConnectionParameters],
        *,
        management: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self.vhost = parameters[0].virtual_host
        self.timeout = timeout
        self.control = Control(f"mq-control:{self.vhost}", parameters)
        servers = parameters if management is None else parameters[:1]
        self._interfaces = [ManagementAPI.of(each, management) for each in servers]

    def __enter__(self) -> QueueReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.control.close(_CLOSE_TIMEOUT)

    def states(self, names: Iterable[str] = ()) -> list[QueueState]:
        """Return some queues, or all.

        Args:
            names: their names. They are asked of the broker one by one, so what is told of their
                consumers and ready messages is exact. Without names all queues are listed by the
                management interface, whose figures of consumers may be some seconds old.

        Returns:
            The queues, in the order of the names.

        Raises:
            QueueNotFoundError: one of those that are named does not exist.
            ManagementError: none is named, and the interface refuses or does not answer.
            MQConnectionError: there is no connection to the broker.
        """
        # AMQP tells a wrong password from a wrong virtual host, HTTP does not
        self.control.link.open_channel(ChannelEvents(), timeout=self.timeout)
        found = {name: self._find(name) for name in names}
        for name, status in found.items():
            if status is None:
                raise QueueNotFoundError(
                    f"there is no queue {name!r} in virtual host {self.vhost!r}; name another "
                    "queue or virtual host"
                )
        try:
            rows = self._rows()
        except ManagementError:
            if not found:
                raise
            rows = {}
        return [self._state(name, found.get(name), rows) for name in found or sorted(rows)]

    def _rows(self) -> dict[str, Mapping[str, Any]]:
        """Return what the management interface tells of each queue, by its name."""
        failures: list[ManagementError] = []
        for api in self._interfaces:
            try:
                # the totals are those of this moment; the rest is gathered every few seconds
                totals = api.call("GET", "queues", self.vhost, query=_TOTALS)
                gathered = api.call("GET", "queues", self.vhost, query=_GATHERED)
            except ManagementError as error:
                failures.append(error)
            else:
                rows = {row["name"]: row for row in gathered}
                return {row["name"]: {**rows.get(row["name"], {}), **row} for row in totals}
        refused = [each for each in failures if each.status in _REFUSED]
        failure = (refused or failures[::-1])[0]
        raise ManagementError(f"{failure}; or name the queues", status=failure.status) from failure

    def _find(self, queue: str) -> QueueStatus | None:
        return find_queue(self.control, queue, timeout=self.timeout)

    def _state(
        self, name: str, status: QueueStatus | None, rows: Mapping[str, Mapping[str, Any]]
    ) -> QueueState:
        row, dead = rows.get(name, {}), dead_queue_name(name)
        if status is None and row.get("consumers") is None:  # too new for the interface to know
            status = self._find(name)
        ready = _ready(row) if status is None else status.messages
        if name.endswith(DEAD_SUFFIX):
            parked = ready
        elif rows:
            parked = _ready(rows.get(dead, {}))
        else:
            found = self._find(dead)
            parked = 0 if found is None else found.messages
        return QueueState(
            queue=name,
            consumers=(row.get("consumers") or 0) if status is None else status.consumers,
            ready=ready,
            unacked=row.get("messages_unacknowledged"),
            parked=parked,
            type=row.get("type"),
            published=_rate(row, "publish"),
            delivered=_rate(row, "deliver_get"),
        )


@contextmanager
def open_control(parameters: Sequence[pika.ConnectionParameters]) -> Iterator[Control]:
    """Return a control connection for a ``with`` block; it is opened when it is first used."""
    control = Control(f"mq-control:{parameters[0].virtual_host}", parameters)
    try:
        yield control
    finally:
        control.close(_CLOSE_TIMEOUT)


def find_queue(control: Control, queue: str, *, timeout: float = _TIMEOUT) -> QueueStatus | None:
    """Look a queue up without making it.

    Returns:
        What is in it; None when there is no such queue. Of one that is exclusive to another
        connection only the name is told.

    Raises:
        MQConnectionError: there is no connection.
    """
    try:
        return control.perform_step(Queue(queue).declare(passive=True), timeout=timeout)
    except Refusal as refusal:
        if refusal.code == RESOURCE_LOCKED:
            return QueueStatus(queue)
        if refusal.code != NOT_FOUND:
            raise refusal.__cause__ or refusal from refusal
        return None


def _ready(row: Mapping[str, Any]) -> int:
    return int(row.get("messages_ready") or 0)


def _rate(row: Mapping[str, Any], event: str) -> float | None:
    details = row.get("message_stats", {}).get(f"{event}_details", {})
    rate = details.get("rate")
    return None if rate is None else round(float(rate), 1)
