"""How many messages the broker is to send ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
