"""Whether everybody moves, and whether health knows: looked at once a second."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neon_mq_connector.testing import ManagementError, PrivateBroker
from neon_mq_connector.testing.management import Row
from tests.soak.actors import Actor
from tests.soak.faults import Saboteur

#: After how many seconds of standing still health has to be False.
STILL = 15.0
#: How long one that is well may stand still, in seconds.
_SILENCE = 10.0
#: At so many looks in a row health is True before it is believed: one that was paused comes back.
_LOOKS = 4
_PERIOD = 1.0

#: What may be wrong with an actor.
UNSEEN = "health is True while it stands still"
STANDSTILL = "it stands still with nothing broken"
FALSE_ALARM = "health is False with nothing broken"


@dataclass
class Wellbeing:
    """How one actor has fared. Durations are in seconds.

    Attributes:
        moved: when it was last seen to move or to have nothing to do, on the monotonic clock.
        silence: for how long it has stood still at most, with messages waiting.
        silence_in_calm: the same, where nothing was broken.
        recovery: how long after a fault it was well again, at most.
        troubles: how often it began to be in trouble, and in which.
    """

    moved: float
    silence: float = 0.0
    silence_in_calm: float = 0.0
    recovery: float = 0.0
    troubles: dict[str, int] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Return the figures for a table."""
        return {
            "silence": round(self.silence, 1),
            "in calm": round(self.silence_in_calm, 1),
            "recovery": round(self.recovery, 1),
            "false alarms": self.troubles.get(FALSE_ALARM, 0),
            "unseen": self.troubles.get(UNSEEN, 0),
        }


class Watch(threading.Thread):
    """Look at the actors until told to stop.

    Its thread owns all that it notes, which is to be read when it has ended.

    Args:
        broker: to count what waits.
        vhost: where.
        actors: whom to look at.
        saboteur: knows when they have to be well.
        complain: told of each promise that is broken.
    """

    def __init__(
        self,
        broker: PrivateBroker,
        vhost: str,
        actors: Sequence[Actor],
        saboteur: Saboteur,
        complain: Callable[[str], None],
    ) -> None:
        super().__init__(name="watch")
        self.seen: dict[str, Wellbeing] = {}
        self._broker = broker
        self._vhost = vhost
        self._actors = actors
        self._saboteur = saboteur
        self._complain = complain
        self._over = threading.Event()
        self._queues: dict[str, Row] = {}
        self._alarmed: dict[str, str] = {}
        self._looks: dict[str, int] = {}  # at which health was True, without one between

    def stop(self) -> None:
        """Look no more, and wait for the thread to end."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look; called by `start`."""
        self.seen = {str(actor): Wellbeing(time.monotonic()) for actor in self._actors}
        while not self._over.wait(_PERIOD):
            with contextlib.suppress(ManagementError):  # the broker is down: what was known holds
                self._queues = {row["name"]: row for row in self._broker.list_queues(self._vhost)}
            for actor in self._actors:
                self._look_at(actor, self.seen[str(actor)])

    def _look_at(self, actor: Actor, seen: Wellbeing) -> None:
        health = actor.service.health()
        calm = self._saboteur.is_calm
        now = time.monotonic()
        seen.moved = max(seen.moved, actor.moved_at)
        queues = [self._queues.get(queue, {}) for queue in actor.queues]
        if not any(queue.get("messages") for queue in queues):
            seen.moved = now
        still = now - seen.moved
        seen.silence = max(seen.silence, still)
        if calm:
            seen.silence_in_calm = max(seen.silence_in_calm, still)
        elif not self._saboteur.is_broken and (not health.healthy or still > _SILENCE):
            seen.recovery = max(seen.recovery, now - self._saboteur.mended_at)
        looks = self._looks[str(actor)] = (
            self._looks.get(str(actor), 0) + 1 if health.healthy else 0
        )
        if looks >= _LOOKS and still > STILL:
            trouble = UNSEEN
        elif calm and still > _SILENCE:
            trouble = STANDSTILL
        elif calm and not health.healthy:
            trouble = FALSE_ALARM
        else:
            trouble = ""
        if trouble and self._alarmed.get(str(actor)) != trouble:
            seen.troubles[trouble] = seen.troubles.get(trouble, 0) + 1
            if seen.troubles[trouble] == 1:
                reasons = "; ".join(health.reasons).replace(actor.name, str(actor))
                self._complain(f"{actor}: {trouble}, for {still:.0f} s: {reasons[:300]}")
        self._alarmed[str(actor)] = trouble
