"""What tests of the command share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neon_mq_connector.cli.app import cli

Run = Callable[..., Result]


def invoke(*arguments: str, given: bytes | str | None = None, **more: Any) -> Result:
    """Run `neon-mq` with arguments in this process."""
    options: dict[str, Any] = {}
    if "mix_stderr" in inspect.signature(CliRunner).parameters:  # click before 8.2
        options["mix_stderr"] = False
    return CliRunner(**options).invoke(cli, arguments, input=given, prog_name="neon-mq", **more)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `neon-mq` with arguments, in an empty folder and without any configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("NEON_MQ_CONFIG_PATH", "NEON_MQ_URL"):
        monkeypatch.delenv(name, raising=False)
    return invoke
