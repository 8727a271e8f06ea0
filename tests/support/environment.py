"""Keeps the tests from reading or writing the configuration of the user who runs them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_ORIGINAL = dict(os.environ)

_READ_BY_THE_PACKAGE = (
    "NEON_MQ_URL",
    "NEON_MQ_CONFIG_PATH",
    "MQ_ASYNC_CONSUMERS",
    "MQ_TESTING",
    "MQ_TESTING_PREFIX",
)


def isolate() -> None:
    """Give this process and its children an empty home folder; called once, before other imports.

    ovos-config decides where its files are when it is imported.
    """
    home = Path(tempfile.mkdtemp(prefix="neon-mq-tests-home-"))
    atexit.register(_remove, home, os.getpid())
    for name in _READ_BY_THE_PACKAGE:
        os.environ.pop(name, None)
    os.environ.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / ".config"),
        XDG_DATA_HOME=str(home / ".local" / "share"),
        XDG_STATE_HOME=str(home / ".local" / "state"),
        XDG_CACHE_HOME=str(home / ".cache"),
        XDG_CONFIG_DIRS=str(home / "xdg"),
        XDG_DATA_DIRS=str(home / "xdg-data"),
        MYCROFT_SYSTEM_CONFIG=str(home / "system" / "mycroft.conf"),
        MYCROFT_WEB_CACHE=str(home / "web_cache.json"),
    )


def original_environment() -> dict[str, str]:
    """Return the environment the tests were started in, for tools that need the user's settings."""
    return dict(_ORIGINAL)


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not from a forked child that a test made
        shutil.rmtree(home, ignore_errors=True)
