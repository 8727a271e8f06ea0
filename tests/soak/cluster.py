"""A cluster of three nodes under load: its nodes are killed and restarted, one after another.

Everything goes over TLS, with a client certificate that the nodes demand.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pika

from neon_mq_connector import MQConnector
from neon_mq_connector.errors import MQError, PublishError
from neon_mq_connector.testing import ManagementError, PrivateBrokerError
from neon_mq_connector.testing.cluster import ClusterNode, PrivateCluster
from neon_mq_connector.testing.ports import free_ports
from neon_mq_connector.utils.network_utils import b64_to_dict, dict_to_b64
from tests.faults.peer import Peer
from tests.soak.report import Findings, as_table, listed
from tests.support.accounting import Ledger
from tests.support.certificates import Certificates
from tests.support.nodes import crash
from tests.support.polling import eventually

VHOST = "/soak"
QUORUM, CLASSIC, NEWS, ASKED = "soak.quorum", "soak.classic", "soak.news", "soak.asked"
KILL, RESTART = "kill -9", "restart"
#: What is looked at for silence: on queues that have a copy on each node.
SENT, HANDLED, ANSWERED = "sent", "handled", "answered"

_ARGUMENTS = {"x-queue-type": "quorum"}
#: How long a node stays away, and a cluster that is whole again is left in peace, in seconds.
_AWAY, _PEACE = 1.0, 1.0
#: RabbitMQ 4.0 does not always end, and a node that was killed may wait for the others without end
#: while it starts. After so many seconds it is killed, and started once more.
_STOP_TIMEOUT, _START_TIMEOUT, _STARTS = 25.0, 60.0, 4
#: For a cluster to be whole again, and for what is left to be handled: a slow machine is no fault.
_PATIENCE = 240.0
_REQUEST_TIMEOUT = 15.0

_DESTINATIONS: tuple[dict[str, Any], ...] = (
    {"queue": QUORUM},
    {"queue": CLASSIC},
    {"exchange": NEWS, "exchange_type": "fanout"},
)

#: What is done, and to which node.
Deed = tuple[str, int]


def endless_deeds() -> Iterator[Deed]:
    """Kill each node in turn, then restart each in turn, and so on."""
    yield from itertools.cycle([(what, node) for what in (KILL, RESTART) for node in range(3)])


class Pulse:
    """How long nothing was heard of something; callable from any thread."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._longest = 0.0

    def beat(self) -> None:
        """Note that it happened."""
        with self._lock:
            self.count += 1
            now = time.monotonic()
            self._longest, self._last = max(self._longest, now - self._last), now

    def take_longest(self) -> float:
        """Return the longest time between two since this was asked last, in seconds."""
        with self._lock:
            longest = max(self._longest, time.monotonic() - self._last)
            self._longest, self._last = 0.0, time.monotonic()
        return longest


@dataclass
class ClusterReport(Findings):
    """What came of it.

    Attributes:
        silences: by deed, the longest time without a message sent, handled, a request answered.
        counts: of messages and requests, by what became of them.
    """

    silences: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def as_text(self) -> str:
        """Return a table for a person."""
        rows = [{"longest silence in seconds": deed, **each} for deed, each in self.silences]
        return "\n".join([as_table(rows), listed(self.counts), super().as_text()])


class ClusterSoak:
    """A run.

    Args:
        deeds: what is done to which node; as many as there is time for.
        seconds: how long nodes are broken, in all.
        rate: messages a second.
        verbose: tell of each deed.
    """

    def __init__(
        self, deeds: Iterable[Deed], *, seconds: float, rate: float = 40.0, verbose: bool = False
    ) -> None:
        self.report = ClusterReport(verbose=verbose)
        self._deeds = deeds
        self._seconds = seconds
        self._pause = 1 / rate
        self._ledger = Ledger()
        self._pulses = {what: Pulse() for what in (SENT, HANDLED, ANSWERED)}
        self._failures = {"sends failed": 0, "requests failed": 0}
        self._over = threading.Event()
        self._certificates: Certificates
        self._ports = free_ports(3)
        self._cluster: PrivateCluster

    def run(self) -> ClusterReport:
        """Do it all; ends everything that it started."""
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(prefix="neon-mq-cluster-"))
            certificates = self._certificates = Certificates(Path(folder))
            config = [certificates.broker_config(port, demand=True) for port in self._ports]
            self._cluster = stack.enter_context(PrivateCluster(config=config))
            self._nodes[0].create_vhost(VHOST)
            service = self._connector("service", certificates.client)
            stack.callback(service.stop)
            self._start(service)
            client = self._connector("client", certificates.client)
            stack.callback(client.stop)
            threads = [
                threading.Thread(target=call, args=(client,), name=call.__name__)
                for call in (self._send, self._ask)
            ]
            stack.callback(self._stop, threads)
            for thread in threads:
                thread.start()
            self._break_nodes()
            self._stop(threads)
            self._drain(service)
            service.stop()
            client.stop()
            self._count()
        return self.report

    @property
    def _nodes(self) -> list[ClusterNode]:
        return self._cluster.nodes

    def _connector(self, name: str, tls: dict[str, str]) -> MQConnector:
        node = self._nodes[0]  # all have the same users
        made = MQConnector(
            {
                "servers": [f"127.0.0.1:{port}" for port in self._ports],
                "users": {name: {"user": node.username, "password": node.password}},
                "connect_timeout": 5,
                "publish_timeout": 10,
                "tls": tls,
            },
            name,
        )
        made.vhost = VHOST
        return made

    # -- the load ------------------------------------------------------------------------------

    def _start(self, service: MQConnector) -> None:
        options: dict[str, Any] = {"ack": "on_success", "durable": True}
        for queue in (QUORUM, CLASSIC, ASKED):
            service.register_consumer(
                queue,
                VHOST,
                queue,
                self._answer if queue == ASKED else self._handle,
                arguments={} if queue == CLASSIC else _ARGUMENTS,
                **options,
            )
        service.register_subscriber(NEWS, VHOST, self._handle, exchange=NEWS, ack="on_success")
        service.run(run_sync=False, mq_timeout=20)

    def _handle(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        self._ledger.handled(properties.message_id)
        if method.routing_key == QUORUM:
            self._pulses[HANDLED].beat()

    @staticmethod
    def _answer(channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        request = b64_to_dict(body)
        channel.queue_declare(queue=request["routing_key"])
        channel.basic_publish(
            "",
            request["routing_key"],
            dict_to_b64({"n": request["n"], "message_id": request["message_id"]}),
        )

    def _send(self, client: MQConnector) -> None:
        """Send to each queue in turn until told to stop."""
        for number in itertools.count():
            where = _DESTINATIONS[number % len(_DESTINATIONS)]
            message_id = f"message {number}"
            self._ledger.sending(message_id)
            try:
                client.send_message({"message_id": message_id}, expiration=None, **where)
            except PublishError as error:
                self._failures["sends failed"] += 1
                self._ledger.failed(message_id, may_have_arrived=error.may_have_arrived)
            else:
                self._ledger.confirmed(message_id)
                self._pulses[SENT].beat()
            if self._over.wait(self._pause):
                return

    def _ask(self, client: MQConnector) -> None:
        """Ask, one request after the other, until told to stop."""
        for number in itertools.count():
            try:
                answer = client.request({"n": number}, ASKED, timeout=_REQUEST_TIMEOUT)
            except MQError:
                self._failures["requests failed"] += 1
            else:
                self._pulses[ANSWERED].beat()
                if answer["n"] != number:
                    self.report.complain(f"request {number} has got {answer}")
            if self._over.wait(self._pause):
                return

    def _stop(self, threads: list[threading.Thread]) -> None:
        self._over.set()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self.report.complain(f"{thread.name} does not return")
        threads.clear()

    # -- the nodes -----------------------------------------------------------------------------

    def _break_nodes(self) -> None:
        deadline = time.monotonic() + self._seconds
        eventually(lambda: all(p.count > 20 for p in self._pulses.values()), timeout=_PATIENCE)
        self._wait_until_whole()
        for pulse in self._pulses.values():
            pulse.take_longest()
        for what, number in self._deeds:
            if time.monotonic() > deadline:
                break
            node = self._nodes[number]
            if what == KILL:
                crash(node)
            else:
                node.stop(_STOP_TIMEOUT)
            time.sleep(_AWAY)
            self._start_node(node)
            self._wait_until_whole()
            time.sleep(_PEACE)
            self._note(f"{what} {number + 1}")

    def _start_node(self, node: ClusterNode) -> None:
        for _ in range(_STARTS - 1):
            try:
                node.start(_START_TIMEOUT)
                return
            except PrivateBrokerError:
                self.report.say("a node does not start: it is killed and started again")
        node.start(_PATIENCE)

    def _wait_until_whole(self) -> None:
        """Wait until quorum queues have a copy on each node again: one more may be broken then."""

        def is_whole() -> bool:
            try:
                rows = self._nodes[0].list_queues(VHOST)
            except (ManagementError, OSError):
                return False
            online = [row.get("online", ()) for row in rows if row["name"] in (QUORUM, ASKED)]
            return len(online) == 2 and all(len(each) == 3 for each in online)

        eventually(is_whole, timeout=_PATIENCE, interval=0.2, what="the cluster is whole")

    def _note(self, deed: str) -> None:
        silences = {what: round(each.take_longest(), 2) for what, each in self._pulses.items()}
        self.report.silences.append((deed, silences))
        self.report.say(f"{deed}: {silences}")

    # -- the end -------------------------------------------------------------------------------

    def _drain(self, service: MQConnector) -> None:
        eventually(
            lambda: self._ledger.confirmed_ids <= self._ledger.handled_ids,
            timeout=_PATIENCE,
            interval=0.2,
            what="everything that was confirmed is handled",
        )
        eventually(service.check_health, timeout=_PATIENCE, what="the service is healthy")

    def _count(self) -> None:
        node = self._nodes[0]
        credentials = pika.PlainCredentials(node.username, node.password)
        parameters = pika.ConnectionParameters(node.host, node.port, VHOST, credentials)
        peer = Peer(parameters, node, self._ledger)
        ready = [each for queue in (QUORUM, CLASSIC) for each in peer.ids_in(queue)]
        account = self._ledger.close(ready=ready)
        for fault in account.faults():
            self.report.complain(fault)
        answered = self._pulses[ANSWERED].count
        self.report.counts = {**account.as_dict(), "answered": answered, **self._failures}
