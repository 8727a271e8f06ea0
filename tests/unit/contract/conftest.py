"""What tests of contracts share with those of the command."""

from __future__ import annotations

from tests.unit.cli.conftest import run

__all__ = ["run"]
