"""Check the queues of a service: as they are declared, and as they exist."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pika
import pika.exceptions as pika_errors
from pika.spec import NOT_FOUND, PRECONDITION_FAILED

from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import MQError
from neon_mq_connector.operations.findings import Finding, error, ok, skipped, warning
from neon_mq_connector.operations.management import ManagementAPI, ManagementError
from neon_mq_connector.operations.queues import open_control
from neon_mq_connector.topology import Queue, QueueStatus, Refusal, Step

#: What changes the way of messages, by its name in policies; as an argument it begins with `x-`.
_EFFECTS = {
    "message-ttl": "messages that wait longer (ms) are dropped or dead-lettered",
    "max-length": "of more messages some are dropped or refused",
    "max-length-bytes": "of more bytes some messages are dropped or refused",
    "expires": "the queue is deleted when it is unused for so long (ms)",
    "delivery-limit": "a message that comes back more often is dropped or dead-lettered",
    "single-active-consumer": "only one consumer at a time gets messages",
    "dead-letter-exchange": "what is rejected or expires goes to this exchange",
}
_DIFFERENCE = re.compile(r"inequivalent arg '(?P<what>[^']+)'.*?(?P<values>received .*)", re.DOTALL)


def check_queues(
    consumers: Mapping[str, Any],
    servers: Sequence[pika.ConnectionParameters],
    management: ManagementAPI | None,
    timeout: float,
) -> Iterator[Finding]:
    """Check the queue of each consumer.

    Args:
        consumers: the consumers of a connector, by name.
        servers: how to connect, one entry per server.
        management: a client of the broker's management interface, if there is one.
        timeout: for each step, in seconds.
    """
    by_vhost: dict[str, list[Registration]] = {}
    for thread in consumers.values():
        vhost = thread.connection_params.virtual_host
        by_vhost.setdefault(vhost, []).append(thread.consumer.registration)
    for vhost, registrations in by_vhost.items():
        there = [copy.copy(server) for server in servers]
        for each in there:
            each.virtual_host = vhost
        with open_control(there) as control:
            for registration in registrations:
                try:
                    yield from _Queue(control, registration, vhost, timeout).findings(management)
                except (MQError, Refusal, pika_errors.AMQPError) as failure:
                    yield error(f"queue {registration.queue.name!r}", str(failure))


class _Queue:
    """One queue in one virtual host."""

    def __init__(
        self, control: Control, registration: Registration, vhost: str, timeout: float
    ) -> None:
        self._control = control
        self._registration = registration
        self._queue = registration.queue
        self._vhost = vhost
        self._timeout = timeout
        self._check = f"queue {self._queue.name!r}"

    def findings(self, management: ManagementAPI | None) -> Iterator[Finding]:
        """Look at its exchange, at the queue, and at what is parked."""
        exchange = self._registration.exchange
        if exchange is not None and self._exists(exchange.declare(passive=True)):
            yield from self._differences(
                f"exchange {exchange.name!r}", exchange.declare(), "exchange"
            )
        if self._registration.delete_on_stop or self._queue.exclusive:
            yield ok(self._check, "it is made at the start and goes at the end")
        else:
            yield from self._shared(management)
        yield from self._parked()

    def _shared(self, management: ManagementAPI | None) -> Iterator[Finding]:
        status = self._exists(self._queue.declare(passive=True))
        if status is None:
            yield warning(
                self._check, f"it does not exist in {self._vhost!r}", "start the service once"
            )
            return
        counts = f"consumers: {status.consumers}, waiting messages: {status.messages}"
        if status.consumers:
            yield ok(self._check, counts)
        else:
            yield warning(self._check, counts, "start the service")
        yield from self._differences(self._check, self._queue.declare(), "queue")
        if management is not None:
            yield from self._managed(management)

    def _managed(self, management: ManagementAPI) -> Iterator[Finding]:
        """Find what only the management interface tells: idle callbacks, and policies."""
        try:
            row = management.call("GET", "queues", self._vhost, self._queue.name)
        except ManagementError as failure:
            yield skipped(f"policies of {self._check}", str(failure))
            return
        unsettled = row.get("messages_unacknowledged")
        settled = row.get("message_stats", {}).get("ack_details", {}).get("rate")
        if unsettled and not settled:
            yield warning(
                self._check,
                f"messages that callbacks have and none has settled lately: {unsettled}",
                "see where they are: /inflight of the service (neon-mq run --health-port)",
            )
        policy = row.get("effective_policy_definition") or {}
        arguments = row.get("arguments") or {}
        for key, effect in _EFFECTS.items():
            argument = f"x-{key}"
            if argument in dict(self._queue.arguments):
                continue
            if key in policy:
                text = f"policy {row.get('policy')!r} has {key} {policy[key]!r}: {effect}"
            elif argument in arguments:
                text = f"it exists with {argument} {arguments[argument]!r}: {effect}"
            else:
                continue
            yield warning(self._check, text, "declare it in the service too, or remove it")

    def _differences(self, check: str, step: Step, kind: str) -> Iterator[Finding]:
        """Declare what exists already: the refusal says how it differs, and nothing is made."""
        try:
            self._control.perform_step(step, timeout=self._timeout)
        except Refusal as refusal:
            found = _DIFFERENCE.search(refusal.text)
            if refusal.code == PRECONDITION_FAILED and found:
                yield warning(
                    check,
                    f"it exists otherwise and is used as it is: {found['what']}: {found['values']}",
                    f"declare the {kind} so in the service, or delete it while no service runs",
                )

    def _parked(self) -> Iterator[Finding]:
        name = self._registration.dead_queue
        status = self._exists(Queue(name).declare(passive=True)) if name else None
        if status is not None and status.messages:
            yield warning(
                self._check,
                f"messages that have failed and are parked in {name!r}: {status.messages}",
                f"neon-mq dead show {name}",
            )

    def _exists(self, step: Step) -> QueueStatus | None:
        try:
            return self._control.perform_step(step, timeout=self._timeout)
        except Refusal as refusal:
            if refusal.code == NOT_FOUND:
                return None
            raise
