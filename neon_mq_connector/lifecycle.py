"""The states of a consumer, the legal moves between them, and the listener to them.

::

    NEW ─► CONNECTING ─► CONSUMING ◄─► RECOVERING
     │         │             │             │
     │         └─────────────┴──────┬──────┴──► FAILED ──► RECOVERING (it is tried again)
     └──────────► STOPPED ◄─── STOPPING (from every state that runs)

The table below has all legal moves. A move that is not in it has lost a race, as a rule to a stop.
It is refused, and no error is raised.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass


class State(enum.Enum):
    """Where a consumer stands."""

    NEW = "new"
    CONNECTING = "connecting"
    CONSUMING = "consuming"
    RECOVERING = "recovering"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


_NEXT = frozenset(State) - {State.NEW, State.CONNECTING}
_MOVES: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CONNECTING, State.STOPPED}),
    State.CONNECTING: _NEXT,
    State.CONSUMING: _NEXT - {State.CONSUMING},
    State.RECOVERING: _NEXT,  # with another reason
    State.FAILED: _NEXT - {State.FAILED},
    State.STOPPING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}


@dataclass(frozen=True)
class Snapshot:
    """A state as it was at one moment.

    Attributes:
        state: where the consumer stood.
        reason: why it is there, for a person to read; empty when there is nothing to say.
        since: when it came there, on the monotonic clock, in seconds.
    """

    state: State
    reason: str
    since: float


class Lifecycle:
    """Hold the state of one consumer; every method may be called from any thread.

    The state is owned by the condition's lock. Listeners are called outside of it, in the thread
    that made the move.
    """

    def __init__(self, on_move: Callable[[Snapshot, Snapshot], None] | None = None) -> None:
        self._changed = threading.Condition()
        self._snapshot = Snapshot(State.NEW, "", time.monotonic())
        self._on_move = on_move

    @property
    def snapshot(self) -> Snapshot:
        """The present state, its reason and since when."""
        return self._snapshot

    @property
    def state(self) -> State:
        """The present state."""
        return self._snapshot.state

    def move(
        self, to: State, reason: str = "", *, only_from: Collection[State] | None = None
    ) -> bool:
        """Change to another state if the table allows it, and the present one is a given one.

        Returns:
            Whether the move was made.
        """
        with self._changed:
            before = self._snapshot
            if to not in _MOVES[before.state]:
                return False
            if only_from is not None and before.state not in only_from:
                return False
            after = self._snapshot = Snapshot(to, reason, time.monotonic())
            self._changed.notify_all()
        if self._on_move is not None:
            self._on_move(before, after)
        return True

    def wait_for(self, states: Collection[State], timeout: float) -> bool:
        """Wait for at most so many seconds; return whether one of the states was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: self._snapshot.state in states, timeout)
