"""What a process holds on to: threads, open files, connections, queues, memory."""

from __future__ import annotations

import gc
import re
import threading
from collections import Counter
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from neon_mq_connector.testing import ManagementError, PrivateBroker
from tests.support.polling import eventually


@dataclass(frozen=True)
class Vitals:
    """What there was at a moment.

    Attributes:
        threads: of this process.
        sockets: of this process, those that listen included.
        connections: that the broker has in the virtual host. Control connections do not count: they
            come with work, and go some time after it.
        queues: in the virtual host, those not included that are made when needed.
        resident_mb: memory of this process.
    """

    threads: int
    sockets: int
    connections: int
    queues: int
    resident_mb: float

    def more_than(self, other: Vitals) -> list[str]:
        """Name what there is more of here than there."""
        return [
            f"{name}: {getattr(self, name)} instead of {getattr(other, name)}"
            for name in ("threads", "sockets", "connections", "queues")
            if getattr(self, name) > getattr(other, name)
        ]


def measure(broker: PrivateBroker, vhost: str, uncounted: Set[str]) -> Vitals:
    """Measure now."""
    gc.collect()
    process = psutil.Process()
    return Vitals(
        threads=threading.active_count(),
        sockets=len(process.net_connections(kind="all")),
        connections=sum(not _is_control(row) for row in broker.list_connections(vhost)),
        queues=len(queue_names(broker, vhost) - uncounted),
        resident_mb=round(process.memory_info().rss / 2**20, 1),
    )


def _is_control(row: dict[str, Any]) -> bool:
    name = str((row.get("client_properties") or {}).get("connection_name", ""))
    return name.endswith(" control")


def queue_names(broker: PrivateBroker, vhost: str) -> set[str]:
    """Return the names of the queues."""
    return {row["name"] for row in broker.list_queues(vhost)}


def settle(measure: Callable[[], Vitals], good: Callable[[Vitals], bool], timeout: float) -> Vitals:
    """Measure until it looks as it should, and return the last that was measured.

    The broker lists connections late, and closed sockets take a moment to go.
    """
    measured: list[Vitals] = []

    def is_good() -> bool:
        with suppress(ManagementError):
            measured.append(measure())
            return good(measured[-1])
        return False

    with suppress(AssertionError):
        eventually(is_good, timeout=timeout, interval=0.5)
    return measured[-1]


def name_threads() -> str:
    """List the threads by what they do, with how many there are of each."""
    names = (re.sub(r":.*|-\d+( .*)?$", "", thread.name) for thread in threading.enumerate())
    return ", ".join(f"{name} ×{n}" for name, n in sorted(Counter(names).items()))
