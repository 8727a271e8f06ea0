"""A user with an empty home directory, an empty environment and an empty ovos-config."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ovos_config.config
import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point everything that is looked for at a fresh directory."""
    directory = tmp_path / "home"
    directory.mkdir()
    for name in list(os.environ):
        if name.startswith(("NEON_MQ", "XDG_", "MQ_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setattr(ovos_config.config, "Configuration", dict)
    return directory


@pytest.fixture
def ovos(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return a function that sets what ovos-config answers."""

    def answer(content: Any) -> None:
        monkeypatch.setattr(ovos_config.config, "Configuration", lambda: content)

    return answer


@pytest.fixture
def config_file(home: Path) -> Path:
    """Return the path of the file in the user's configuration directory, which does not exist."""
    path = home / ".config" / "neon" / "mq_config.json"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def credentials_file(home: Path) -> Path:
    """Return the path of the file in the user's data directory, which does not exist."""
    path = home / ".local" / "share" / "neon" / "credentials.json"
    path.parent.mkdir(parents=True)
    return path
