"""What unit tests of several folders share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

#: How many values a property is tried with; MODEL_EFFORT multiplies it, as it does for the models.
_EXAMPLES = 50

settings.register_profile(
    "unit", max_examples=_EXAMPLES * max(1, int(os.environ.get("MODEL_EFFORT", "0"))), deadline=None
)
settings.load_profile("unit")


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Have threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
