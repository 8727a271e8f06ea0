"""The tests; importing them first separates this process from the user's own configuration."""

from __future__ import annotations

from tests.support.environment import isolate

isolate()
