"""The states of a consumer."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.lifecycle import Lifecycle, Snapshot, State

STATES = list(State)


def test_it_begins_new_and_without_a_reason() -> None:
    lifecycle = Lifecycle()
    assert lifecycle.state is State.NEW
    assert lifecycle.snapshot.reason == ""
    assert lifecycle.snapshot.since <= time.monotonic()


def test_a_move_carries_its_reason_and_its_time() -> None:
    lifecycle = Lifecycle()
    began = time.monotonic()
    assert lifecycle.move(State.CONNECTING)
    assert lifecycle.move(State.RECOVERING, "no broker answers")
    snapshot = lifecycle.snapshot
    assert (snapshot.state, snapshot.reason) == (State.RECOVERING, "no broker answers")
    assert snapshot.since >= began


@pytest.mark.parametrize("to", STATES)
def test_nothing_leaves_stopped(to: State) -> None:
    lifecycle = Lifecycle()
    assert lifecycle.move(State.STOPPED)
    assert not lifecycle.move(to)
    assert lifecycle.state is State.STOPPED


@pytest.mark.parametrize("to", [each for each in STATES if each is not State.STOPPED])
def test_a_stop_that_came_first_wins(to: State) -> None:
    lifecycle = Lifecycle()
    lifecycle.move(State.CONNECTING)
    lifecycle.move(State.STOPPING, "asked to")
    assert not lifecycle.move(to, "too late")
    assert lifecycle.snapshot.reason == "asked to"


def test_what_has_failed_may_be_tried_again() -> None:
    lifecycle = Lifecycle()
    for state in (State.CONNECTING, State.FAILED, State.RECOVERING, State.CONSUMING):
        assert lifecycle.move(state)


@given(st.lists(st.sampled_from(STATES), max_size=30))
def test_any_sequence_of_moves_is_told_exactly_as_it_was_made(wanted: list[State]) -> None:
    told: list[tuple[Snapshot, Snapshot]] = []
    lifecycle = Lifecycle(lambda before, after: told.append((before, after)))
    expected = State.NEW
    for state in wanted:
        made = lifecycle.move(state)
        if made:
            assert told[-1][0].state is expected
            assert told[-1][1].state is state
            expected = state
        assert lifecycle.state is expected
    # nothing comes after STOPPED, and nothing but it after STOPPING
    reached = [after.state for _, after in told]
    if State.STOPPED in reached:
        assert reached.index(State.STOPPED) == len(reached) - 1
    if State.STOPPING in reached:
        assert set(reached[reached.index(State.STOPPING) + 1 :]) <= {State.STOPPED}


def test_a_waiting_thread_is_woken_by_the_move() -> None:
    lifecycle = Lifecycle()
    answers: list[bool] = []
    waiting = threading.Thread(
        target=lambda: answers.append(lifecycle.wait_for({State.CONSUMING}, 5.0))
    )
    waiting.start()
    lifecycle.move(State.CONNECTING)
    lifecycle.move(State.CONSUMING)
    waiting.join(30.0)
    assert answers == [True]


def test_waiting_ends_when_the_time_is_over() -> None:
    assert not Lifecycle().wait_for({State.CONSUMING}, 0.05)


def test_a_listener_may_ask_and_move_again() -> None:
    moves: list[State] = []

    def listen(_before: Snapshot, after: Snapshot) -> None:
        moves.append(after.state)
        if after.state is State.CONNECTING:
            lifecycle.move(State.FAILED, "at once")

    lifecycle = Lifecycle(listen)
    lifecycle.move(State.CONNECTING)
    assert moves == [State.CONNECTING, State.FAILED]


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
