"""The states of a consumer against a table of their own, from one thread and from many."""

from __future__ import annotations

import threading
from collections.abc import Collection

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from neon_mq_connector.lifecycle import Lifecycle, Snapshot, State
from tests.unit.models.effort import effort

#: From where each state can be reached.
_FROM = {
    State.NEW: "",
    State.CONNECTING: "new",
    State.CONSUMING: "connecting recovering failed",
    State.RECOVERING: "connecting consuming recovering failed",
    State.FAILED: "connecting consuming recovering",
    State.STOPPING: "connecting consuming recovering failed",
    State.STOPPED: "new connecting consuming recovering failed stopping",
}
STATES = st.sampled_from(State)


class LifecycleModel(RuleBasedStateMachine):
    """Make moves, allowed or not, and ask."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Snapshot, Snapshot]] = []
        self.lifecycle = Lifecycle(self._on_move)
        self.state = State.NEW
        self.reason = ""
        self.moves = 0

    def _on_move(self, before: Snapshot, after: Snapshot) -> None:
        # a listener may ask, and may even move on: it is called outside of the lock
        assert self.lifecycle.snapshot is after
        assert not self.lifecycle.move(State.NEW)
        self.told.append((before, after))

    @rule(to=STATES, reason=st.text(max_size=3))
    def move(self, to: State, reason: str) -> None:
        allowed = self.state.value in _FROM[to].split()
        assert self.lifecycle.move(to, reason) is allowed
        if allowed:
            self.state, self.reason, self.moves = to, reason, self.moves + 1

    @rule(to=STATES, only_from=st.sets(STATES))
    def move_from_some(self, to: State, only_from: Collection[State]) -> None:
        allowed = self.state.value in _FROM[to].split() and self.state in only_from
        assert self.lifecycle.move(to, only_from=tuple(only_from)) is allowed
        if allowed:
            self.state, self.reason, self.moves = to, "", self.moves + 1

    @rule(states=st.sets(STATES))
    def wait_for_nothing_to_happen(self, states: Collection[State]) -> None:
        assert self.lifecycle.wait_for(states, 0.0) is (self.state in states)

    @rule(to=STATES)
    def wait_for_what_another_thread_does(self, to: State) -> None:
        if self.state.value not in _FROM[to].split():
            return
        mover = threading.Thread(target=self.lifecycle.move, args=(to,), name="mover")
        before = len(self.told)
        mover.start()
        assert self.lifecycle.wait_for({to}, 5.0)
        mover.join(30.0)
        assert len(self.told) == before + 1
        self.state, self.reason, self.moves = to, "", self.moves + 1

    @invariant()
    def it_is_where_it_is_said_to_be(self) -> None:
        snapshot = self.lifecycle.snapshot
        assert self.lifecycle.state is snapshot.state is self.state
        assert snapshot.reason == self.reason

    @invariant()
    def each_move_was_told_once_and_follows_the_one_before(self) -> None:
        assert len(self.told) == self.moves
        for (_, after), (before, _) in zip(self.told, self.told[1:], strict=False):
            assert after is before
            assert before.since <= self.lifecycle.snapshot.since


TestLifecycleModel = LifecycleModel.TestCase
TestLifecycleModel.settings = effort(examples=40, steps=30)


@pytest.mark.parametrize("_round", range(20))
def test_of_many_threads_that_stop_exactly_one_made_the_move(_round: int) -> None:
    lifecycle = Lifecycle()
    lifecycle.move(State.CONNECTING)
    barrier = threading.Barrier(8)
    made: list[bool] = []

    def stop() -> None:
        barrier.wait(30.0)
        made.append(lifecycle.move(State.STOPPING))

    threads = [threading.Thread(target=stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert sorted(made) == [False] * 7 + [True]
