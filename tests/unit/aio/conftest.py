"""Tests of this folder may be coroutines."""

from __future__ import annotations

from tests.support.loops import arun, pytest_pyfunc_call

__all__ = ["arun", "pytest_pyfunc_call"]
