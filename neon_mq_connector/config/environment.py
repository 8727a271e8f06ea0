"""What is read from the environment: flags, paths, and where a user's configuration lives."""

from __future__ import annotations

import os
from pathlib import Path

from neon_mq_connector.config.values import mistake

CONFIG_PATH_VARIABLE = "NEON_MQ_CONFIG_PATH"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def env_flag(name: str, default: bool = False) -> bool:
    """Read a boolean from an environment variable.

    Args:
        name: the variable, e.g. ``"MQ_ASYNC_CONSUMERS"``.
        default: the answer when the variable is not set.

    Returns:
        True for ``1``, ``true``, ``yes``, ``on``; False for ``0``, ``false``, ``no``, ``off`` and
        the empty text; upper case and surrounding blanks do not matter.

    Raises:
        ConfigurationError: the variable holds anything else. Set it to one of these, or unset it.

    Example:
        >>> os.environ["MQ_ASYNC_CONSUMERS"] = "false"
        >>> env_flag("MQ_ASYNC_CONSUMERS", True)
        False
    """
    text = os.environ.get(name)
    if text is None:
        return default
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise mistake(
        f"environment variable {name}: {text[:40]!r} is neither true nor false; "
        "set it to 1, true, yes or on, or to 0, false, no or off"
    )


def env_path(name: str) -> Path | None:
    """Read a path from an environment variable.

    Returns:
        The path, with a leading ``~`` expanded; None when the variable is not set or blank.
    """
    text = os.environ.get(name, "").strip()
    return expand(text) if text else None


def expand(text: str | Path) -> Path:
    """Expand a leading ``~`` where that is possible; leave the path alone where it is not."""
    return Path(os.path.expanduser(text))


def home_directory() -> Path | None:
    """Return the user's home directory.

    A process has none where a container runs it under a user id without a password entry.
    """
    home = os.path.expanduser("~")
    return Path(home) if os.path.isabs(home) else None


def config_directory() -> Path | None:
    """Return the directory for configuration files: ``$XDG_CONFIG_HOME``, else ``~/.config``."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    home = home_directory()
    return home / ".config" if home else None
