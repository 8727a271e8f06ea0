"""What unit tests of several folders share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

#: Multiplies how many values a property is tried with and how many sequences a model is.
_EFFORT = int(os.environ.get("MODEL_EFFORT", "0"))

settings.register_profile(
    "unit",
    max_examples=50 * max(1, _EFFORT),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # on a busy machine it is
)
settings.load_profile("unit")


def effort(*, examples: int, steps: int = 50) -> settings:
    """Make the settings of a model: always the same cases, or new ones with MODEL_EFFORT set."""
    return settings(
        max_examples=examples * max(1, _EFFORT),
        stateful_step_count=steps,
        derandomize=_EFFORT == 0,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Have threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
