"""The faults of a soak: the same for the same seed, in storms with a calm after each."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.testing import ManagementError, PrivateBroker
from neon_mq_connector.testing.proxy import Direction, FaultProxy
from neon_mq_connector.utils.network_utils import b64_to_dict
from tests.soak.actors import Actor
from tests.support.accounting import take_all
from tests.support.nodes import crash

#: Seconds from the last fault of a storm to the first of the next.
CALM = 35.0
#: Seconds after a fault in which an actor may be unwell: to notice a line that is silent takes two
#: heartbeats.
GRACE = 15.0
EMPTY = "empty dead-letter queue"
_WEIGHTS = {
    "reset": 5,
    "tear": 4,
    "close connections": 4,
    "blackhole": 3,
    EMPTY: 3,
    "refuse": 2,
    "restart broker": 1,
    "kill broker": 0.3,
}
_FAULTS_OF_A_STORM = 5
#: What ends a storm.
MEND = "mend"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 2.0, 5.0


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        pause: how long to wait before it, in seconds.
        kind: what.
        lasts: for how long, in seconds, where that makes a difference.
        pick: a number from 0 to 1 by which something is chosen.
    """

    pause: float
    kind: str
    lasts: float
    pick: float


def faults(seed: int) -> Iterator[Fault]:
    """Return faults without end: the same for the same seed."""
    source = random.Random(seed)
    for number in itertools.count():
        (kind,) = source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        if number < 2:  # so that the shortest run has both
            kind = ("reset", "restart broker")[number]
        pause = source.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)
        if number and number % _FAULTS_OF_A_STORM == 0:
            yield Fault(pause, MEND, 0.0, 0.0)
            pause = CALM
        yield Fault(pause, kind, source.uniform(0.5, 4.0), source.random())


class Saboteur:
    """Make faults happen; its thread owns what it notes, and others may read it.

    Args:
        broker: the broker to break.
        proxy: the line to break.
        vhost: where the queues are.
        actors: whom it hits.

    Attributes:
        counts: of faults by kind.
        is_broken: whether something is broken now.
        mended_at: when the last fault was over, on the monotonic clock.
    """

    def __init__(
        self, broker: PrivateBroker, proxy: FaultProxy, vhost: str, actors: Sequence[Actor]
    ) -> None:
        self.counts: dict[str, int] = {}
        self.is_broken = False
        self.mended_at = 0.0
        self._broker = broker
        self._proxy = proxy
        self._vhost = vhost
        self._actors = actors
        self._deeds: dict[str, Callable[[Fault], object]] = {
            "reset": lambda _: self._proxy.reset(),
            "tear": self._tear,
            "close connections": self._close_connections,
            "blackhole": self._blackhole,
            EMPTY: self._empty_dead_queues,
            "refuse": self._refuse,
            "restart broker": lambda _: self._broker.restart(),
            "kill broker": self._kill,
            MEND: lambda _: self._proxy.restore(),
        }

    def commit(self, fault: Fault) -> None:
        """Do it, and what undoes it."""
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        if fault.kind == EMPTY:  # which harms nobody
            self._deeds[fault.kind](fault)
            return
        self.is_broken = True
        self._deeds[fault.kind](fault)
        self.mended_at = time.monotonic()
        self.is_broken = False

    @property
    def is_calm(self) -> bool:
        """Whether everybody has to be well."""
        return not self.is_broken and time.monotonic() >= self.mended_at + GRACE

    # -- the line ------------------------------------------------------------------------------

    def _tear(self, fault: Fault) -> None:
        self._proxy.tear(Direction.TO_BROKER if fault.pick < 0.5 else Direction.TO_CLIENT)

    def _blackhole(self, fault: Fault) -> None:
        for_all = fault.pick < 0.3
        self._proxy.blackhole(new=for_all)
        if for_all:
            time.sleep(fault.lasts)
            self._proxy.restore()

    def _refuse(self, fault: Fault) -> None:
        self._proxy.refuse()
        self._proxy.reset()
        time.sleep(fault.lasts)
        self._proxy.restore()

    # -- the broker ----------------------------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        crash(self._broker)
        self._broker.start()

    def _close_connections(self, fault: Fault) -> None:
        with contextlib.suppress(ManagementError):
            names = sorted(row["name"] for row in self._broker.list_connections(self._vhost))
            random.Random(fault.pick).shuffle(names)
            for name in names[: 1 + int(fault.pick * 3)]:
                self._broker.management.close_connection(name)

    # -- an operator ---------------------------------------------------------------------------

    def _empty_dead_queues(self, fault: Fault) -> None:
        """Take out what is parked, and the queues with it."""
        for actor in self._actors:
            if random.Random(f"{fault.pick}{actor}").random() < 0.5:
                take_parked(self._broker, self._vhost, actor)


def take_parked(broker: PrivateBroker, vhost: str, actor: Actor) -> None:
    """Note what an actor has parked, and delete the queues that it is in."""
    # RabbitMQ 4.0 fails a get from a queue that is missing with an internal error if the name is so
    # long that its answer has to be cut within a character
    known = {row["name"] for row in broker.list_queues(vhost)}
    with pika.BlockingConnection(pika.URLParameters(broker.url(vhost))) as connection:
        for queue in known.intersection(actor.dead_queues):
            for _, body in take_all(connection.channel(), queue):
                actor.books.parked(b64_to_dict(body)["n"])
            with contextlib.suppress(pika_errors.ChannelClosedByBroker):  # one more has come
                connection.channel().queue_delete(queue, if_empty=True)


def ready_in(broker: PrivateBroker, vhost: str, actor: Actor) -> list[int]:
    """Return the numbers of the messages that lie in an actor's queues."""
    with pika.BlockingConnection(pika.URLParameters(broker.url(vhost))) as connection:
        return [
            b64_to_dict(body)["n"]
            for queue in actor.queues
            for _, body in take_all(connection.channel(), queue)
        ]
