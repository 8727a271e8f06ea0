"""How many messages the broker is to send ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.registration import Registration
from neon_mq_connector.topology import Queue

MIB = 2**20


def make(is_unstable: Callable[[], bool] = lambda: False, **options: Any) -> Flow:
    flow = Flow(Registration(Queue("q"), **options), lambda: 0, is_unstable)
    flow.begin(1000, is_as_registered=True)
    return flow


@pytest.mark.parametrize(
    "most, steps",
    [
        (32 * MIB, [((), 2, 0, 2), ((1, 500, 1), 2, 0, 50)]),
        (32 * MIB, [((2, 1000, 2), 2, 2, 48), ((), 48, 1, 48), ((), 48, 0, 50)]),
        (
            32 * MIB,
            [
                ((2, 2 * MIB, 2), 2, 0, 32),
                ((32, 32 * 8 * MIB, 34), 2, 0, 1),  # there are more than enough
                ((20, 20 * 8 * MIB, 2), 2, 0, 4),
            ],
        ),
        (1000, [((1, 10_000, 1), 2, 0, 1)]),
    ],
    ids=[
        "it begins with few and takes all when the first were small",
        "what is unsettled and what may come are not more than was asked for",
        "large messages are few",
        "a message larger than all may be comes alone",
    ],
)
def test_as_many_are_wanted_as_fit(most: int, steps: list[tuple[Any, int, int, int]]) -> None:
    flow = make(prefetch_count=50, inbox_max_bytes=most)
    for arrival, now, unsettled, wanted in steps:
        if arrival:
            flow.arrived(*arrival)
        assert flow.wanted(now, unsettled=unsettled) == wanted


def test_sizes_that_vary_a_little_change_nothing() -> None:
    flow = make(prefetch_count=50, inbox_max_bytes=32 * MIB)
    flow.arrived(50, 50 * MIB, 30)
    few = flow.wanted(2)
    for number in range(200):
        flow.arrived(1, MIB * 9 // 10 if number % 2 else MIB, 30)
        assert flow.wanted(2) == few


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40 * MIB)), max_size=40))
def test_what_is_here_and_what_may_come_fill_the_room_twice_at_most(
    batches: list[tuple[int, int]],
) -> None:
    flow = make(prefetch_count=60, inbox_max_bytes=32 * MIB)
    prefetch = 2
    for count, size in batches:
        flow.arrived(count, count * size, count)
        before, prefetch = prefetch, flow.wanted(prefetch)
        assert 1 <= prefetch <= 60
        if prefetch < before:
            assert prefetch == 1 or (count + prefetch) * flow._mean <= 64 * MIB


def test_while_a_loss_would_count_it_takes_one_more_than_it_handles() -> None:
    losses = [True]
    flow = make(lambda: bool(losses), prefetch_count=50)
    flow.arrived(1, 100, 1)
    assert flow.wanted(2) == 2
    losses.clear()
    assert flow.wanted(2) == 50
