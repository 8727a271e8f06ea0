"""The faults of a soak, planned from a seed before it begins."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from neon_mq_connector.testing import ManagementError, PrivateBroker
from tests.soak.actors import DELETED
from tests.support.nodes import crash
from tests.support.proxy import Direction, FaultProxy

_WEIGHTS = {
    "reset": 5,
    "tear": 4,
    "close connections": 4,
    "blackhole": 3,
    "delete queue": 3,
    "refuse": 2,
    "delay": 2,
    "throttle": 1,
    "restart broker": 1,
    "kill broker": 0.3,
}
_SHORTEST_PAUSE, _LONGEST_PAUSE = 2.0, 5.0


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        at: when, in seconds from the beginning.
        kind: what.
        lasts: for how long, in seconds, where that makes a difference.
        pick: a number from 0 to 1 by which something is chosen.
    """

    at: float
    kind: str
    lasts: float
    pick: float


def plan(seed: int, first: float, last: float) -> list[Fault]:
    """Plan faults: the same for the same seed and times.

    Args:
        seed: of the random numbers.
        first: when faults begin, in seconds.
        last: when they are over, in seconds.

    Returns:
        the faults by time; one restart of the broker at least.
    """
    source = random.Random(seed)
    faults = []
    at = first
    while at < last:
        (kind,) = source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        faults.append(Fault(at, kind, source.uniform(0.5, 4.0), source.random()))
        at += source.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)
    if faults and not any(fault.kind == "restart broker" for fault in faults):
        middle = len(faults) // 2
        faults[middle] = Fault(faults[middle].at, "restart broker", 1.0, 0.0)
    return faults


class Saboteur:
    """Make faults happen.

    Args:
        broker: the broker to break.
        proxy: the line to break.
        vhost: where the queues are.
    """

    def __init__(self, broker: PrivateBroker, proxy: FaultProxy, vhost: str) -> None:
        self._broker = broker
        self._proxy = proxy
        self._vhost = vhost
        self.counts: dict[str, int] = {}

    def commit(self, fault: Fault) -> None:
        """Do it, and what undoes it."""
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        deeds: dict[str, Callable[[Fault], object]] = {
            "reset": lambda _: self._proxy.reset(),
            "tear": self._tear,
            "close connections": self._close_connections,
            "blackhole": self._blackhole,
            "delete queue": self._delete_queue,
            "refuse": self._refuse,
            "delay": self._delay,
            "throttle": self._throttle,
            "restart broker": lambda _: self._broker.restart(),
            "kill broker": self._kill,
        }
        deeds[fault.kind](fault)

    def _tear(self, fault: Fault) -> None:
        self._proxy.tear(Direction.TO_BROKER if fault.pick < 0.5 else Direction.TO_CLIENT)

    def _blackhole(self, fault: Fault) -> None:
        for_all = fault.pick < 0.3
        self._proxy.blackhole(new=for_all)
        if for_all:
            time.sleep(fault.lasts)
            self._proxy.heal()

    def _refuse(self, fault: Fault) -> None:
        self._proxy.refuse()
        self._proxy.reset()
        time.sleep(fault.lasts)
        self._proxy.heal()

    def _delay(self, fault: Fault) -> None:
        self._proxy.delay(0.05 + 0.2 * fault.pick)
        time.sleep(fault.lasts)
        self._proxy.delay(0.0)

    def _throttle(self, fault: Fault) -> None:
        self._proxy.throttle(5_000 + 20_000 * fault.pick)
        time.sleep(fault.lasts)
        self._proxy.throttle(None)

    def _close_connections(self, fault: Fault) -> None:
        with contextlib.suppress(ManagementError):
            names = sorted(row["name"] for row in self._broker.list_connections(self._vhost))
            random.Random(fault.pick).shuffle(names)
            for name in names[: 1 + int(fault.pick * 3)]:
                self._broker.management.close_connection(name)

    def _delete_queue(self, fault: Fault) -> None:
        with contextlib.suppress(ManagementError):
            self._broker.management.call("DELETE", "queues", self._vhost, DELETED)

    def _kill(self, fault: Fault) -> None:
        crash(self._broker)
        self._broker.start()
