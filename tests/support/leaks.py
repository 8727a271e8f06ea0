"""Finds what the library left behind: threads, connections, and queues that are its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from neon_mq_connector.testing.running import RunningBroker
from tests.support.polling import eventually

PATIENCE_SECONDS = 60.0
KINDS = ("threads", "connections", "queues")

_THREAD_PREFIX = "mq-"
_REPLY_QUEUE_PREFIX = "neon.reply."


@dataclass(frozen=True)
class Baseline:
    """What was there before the test."""

    threads: frozenset[int]
    ports: frozenset[int]


def baseline(broker: RunningBroker | None = None) -> Baseline:
    """Note the threads and connections that are not the test's."""
    return Baseline(
        threads=frozenset(id(thread) for thread in threading.enumerate()),
        ports=frozenset(_own_ports(broker)) if broker else frozenset(),
    )


def close_shared_clients() -> None:
    """End what lives as long as the process on purpose: the clients behind `send_mq_request`."""
    module = sys.modules.get("neon_mq_connector.service.shared_clients")
    close = getattr(module, "close_shared_clients", None)
    if close is not None:
        close()


def check_threads(before: Baseline) -> None:
    """Fail naming the library's threads that are still there after a while."""
    _expect_none("threads of ours outlive the test", lambda: _own_threads(before))


def check_connections(before: Baseline, broker: RunningBroker) -> None:
    """Fail naming this process's connections to the broker that are still there after a while.

    They are read from the kernel: the broker itself lists a connection up to a second late.
    """
    _expect_none(
        "connections of ours outlive the test",
        lambda: [f"local port {port}" for port in sorted(set(_own_ports(broker)) - before.ports)],
    )


def check_queues(broker: RunningBroker, vhost: str) -> None:
    """Fail naming the queues that nobody but the library would have made, after a while.

    Those are reply queues, a subscriber's own queues (they expire), and exclusive ones. A queue
    that a service registered by name stays on purpose.
    """
    _expect_none("queues of ours outlive the test", lambda: _own_queues(broker, vhost))


def _expect_none(complaint: str, find: Any) -> None:
    found: list[str] = []

    def gone() -> bool:
        found[:] = find()
        return not found

    try:
        eventually(gone, timeout=PATIENCE_SECONDS)
    except AssertionError:
        raise AssertionError(f"{complaint}: {', '.join(found)}") from None


def _own_threads(before: Baseline) -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(_THREAD_PREFIX) and id(thread) not in before.threads
    ]


def _own_ports(broker: RunningBroker) -> Iterable[int]:
    for connection in psutil.Process().net_connections(kind="tcp4"):
        if tuple(connection.raddr)[1:] == (broker.port,):
            yield connection.laddr.port


def _own_queues(broker: RunningBroker, vhost: str) -> list[str]:
    return [
        queue["name"]
        for queue in broker.list_queues(vhost)
        if queue["name"].startswith(_REPLY_QUEUE_PREFIX)
        or queue.get("exclusive")
        or "x-expires" in queue.get("arguments", {})
    ]
