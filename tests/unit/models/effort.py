"""How hard the models are tried: always the same cases, or new ones with MODEL_EFFORT set."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings


def effort(*, examples: int, steps: int = 50) -> settings:
    """Make the settings of a model; MODEL_EFFORT multiplies the examples and chooses new ones."""
    factor = int(os.environ.get("MODEL_EFFORT", "0"))
    return settings(
        max_examples=examples * max(1, factor),
        stateful_step_count=steps,
        derandomize=factor == 0,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
