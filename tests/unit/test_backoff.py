"""How long to wait before trying again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neon_mq_connector.backoff import ExponentialBackoff, OutageBackoff

AGES = st.floats(min_value=-10, max_value=1e9)
SHARES = st.floats(min_value=0, max_value=1)


@given(age=AGES, chance=SHARES)
def test_an_outage_is_waited_out_between_floor_and_ceiling(age: float, chance: float) -> None:
    backoff = OutageBackoff()
    assert backoff.floor <= backoff.delay(age, lambda: chance) <= backoff.ceiling == 30.0


@given(age=st.floats(min_value=0, max_value=200), chance=SHARES)
def test_a_delay_is_half_to_whole_of_its_share_of_the_outage(age: float, chance: float) -> None:
    backoff = OutageBackoff(floor=0.0, ceiling=1e9)
    assert 0.075 * age - 1e-9 <= backoff.delay(age, lambda: chance) <= 0.15 * age + 1e-9
    # many clients do not come back in step
    assert age < 1 or len({backoff.delay(age) for _ in range(50)}) > 10


def test_delays_between_attempts_double_up_to_the_ceiling() -> None:
    backoff = ExponentialBackoff()
    assert [backoff.delay(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(
    attempt=st.integers(min_value=-5, max_value=10**9),
    factor=st.floats(min_value=1, max_value=1e6),
)
def test_no_number_of_attempts_breaks_the_ceiling(attempt: int, factor: float) -> None:
    assert 0 < ExponentialBackoff(factor=factor).delay(attempt) <= 60.0
