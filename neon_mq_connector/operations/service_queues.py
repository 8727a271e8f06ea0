"""Check the queues of a service: as they are declared, and as they exist."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.control.control import Control
from neon_mq_connector.errors import MQError
from neon_mq_connector.operations.findings import Finding, error, ok, skipped, warning
from neon_mq_connector.operations.management import ManagementAPI, ManagementError
from neon_mq_connector.operations.queues import find_queue, open_control
from neon_mq_connector.topology import QueueStatus, Refusal, Step

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
    """Check the queue of each consumer of a connector, with so many seconds for each step."""
    controls: dict[str, Control] = {}  # by virtual host
    with ExitStack() as stack:
        for thread in consumers.values():
            vhost, registration = thread.consumer.vhost, thread.consumer.registration
            if vhost not in controls:
                there = [copy.copy(server) for server in servers]
                for each in there:
                    each.virtual_host = vhost
                controls[vhost] = stack.enter_context(open_control(there))
            check = _Check(controls[vhost], registration, vhost, timeout)
            try:
                yield from check.findings(management)
            except (MQError, Refusal, pika_errors.AMQPError) as failure:
                yield error(check.name, str(failure))


@dataclass
class _Check:
    """The check of one queue in one virtual host."""

    control: Control
    registration: Registration
    vhost: str
    timeout: float

    @property
    def name(self) -> str:
        """What the findings are about."""
        return f"queue {self.registration.queue.name!r}"

    def findings(self, management: ManagementAPI | None) -> Iterator[Finding]:
        """Look at its exchange, at the queue, and at what is parked."""
        registration, queue = self.registration, self.registration.queue
        exchange = registration.exchange
        if exchange is not None and self._refusal(exchange.declare(passive=True)) is None:
            yield from self._differences(f"exchange {exchange.name!r}", exchange.declare())
        if registration.delete_on_stop or queue.exclusive:
            yield ok(self.name, "it is made at the start and goes at the end")
        elif (status := self._find(queue.name)) is None:
            text = f"it does not exist in {self.vhost!r}"
            yield warning(self.name, text, "start the service once")
        else:
            counts = f"consumers: {status.consumers}, waiting messages: {status.messages}"
            if status.consumers:
                yield ok(self.name, counts)
            else:
                yield warning(self.name, counts, "start the service")
            yield from self._differences(self.name, queue.declare())
            if management is not None:
                yield from self._managed(management)
        dead = registration.dead_queue
        if dead and (status := self._find(dead)) is not None and status.messages:
            yield warning(
                self.name,
                f"messages that have failed and are parked in {dead!r}: {status.messages}",
                f"neon-mq dead show {dead}",
            )

    def _managed(self, management: ManagementAPI) -> Iterator[Finding]:
        """Find what only the management interface tells: idle callbacks, and policies."""
        queue = self.registration.queue
        try:
            row = management.call("GET", "queues", self.vhost, queue.name)
        except ManagementError as failure:
            yield skipped(f"policies of {self.name}", str(failure))
            return
        unsettled = row.get("messages_unacknowledged")
        settled = row.get("message_stats", {}).get("ack_details", {}).get("rate")
        if unsettled and not settled:
            yield warning(
                self.name,
                f"messages that callbacks have and none has settled lately: {unsettled}",
                "see where they are: /inflight of the service (neon-mq run --health-port)",
            )
        policy = row.get("effective_policy_definition") or {}
        arguments = row.get("arguments") or {}
        for key, effect in _EFFECTS.items():
            argument = f"x-{key}"
            if argument in queue.arguments:
                continue
            if key in policy:
                text = f"policy {row.get('policy')!r} has {key} {policy[key]!r}: {effect}"
            elif argument in arguments:
                text = f"it exists with {argument} {arguments[argument]!r}: {effect}"
            else:
                continue
            yield warning(self.name, text, "declare it in the service too, or remove it")

    def _differences(self, check: str, step: Step) -> Iterator[Finding]:
        """Declare what exists already: the refusal says how it differs, and nothing is made."""
        refusal = self._refusal(step)
        if refusal is not None and (found := _DIFFERENCE.search(refusal.text)):
            yield warning(
                check,
                f"it exists otherwise and is used as it is: {found['what']}: {found['values']}",
                "declare it so in the service, or delete it while no service runs",
            )

    def _refusal(self, step: Step) -> Refusal | None:
        try:
            self.control.perform_step(step, timeout=self.timeout)
        except Refusal as refusal:
            return refusal
        return None

    def _find(self, queue: str) -> QueueStatus | None:
        return find_queue(self.control, queue, timeout=self.timeout)
