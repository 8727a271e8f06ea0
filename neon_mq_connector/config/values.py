"""Values of a configuration and of the environment, and the words of errors about them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neon_mq_connector.errors import ConfigurationError

#: The attribute of an `ssl.SSLContext` that is equal where it was made from equal files.
TLS_IDENTITY = "_neon_mq_made_from"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_KINDS: tuple[tuple[Any, str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a text"),
    (Mapping, "an object"),
    ((list, tuple), "a list"),
)


@dataclass(frozen=True, order=True)
class Endpoint:
    """One server to connect to.

    Attributes:
        host: a name or an address; an IPv6 address without brackets.
        port: the TCP port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Credentials:
    """The name and password with which a service logs in.

    Attributes:
        username: the user's name on the broker.
        password: the user's password, in plain text; it is left out of the ``repr``.
    """

    username: str
    password: str = field(repr=False)


def configuration_error(text: str) -> ConfigurationError:
    """Return the error for something that is wrong in a configuration.

    What would break the line of its message is escaped: names and paths may hold anything.
    """
    if not text.isprintable():
        pieces = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        text = "".join(pieces)
    return ConfigurationError(text)


def kind_of(value: Any) -> str:
    """Return the kind of a value in the words of a configuration file, without quoting it."""
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    named = (name for kinds, name in _KINDS if isinstance(value, kinds))
    return next(named, f"a value of type {type(value).__name__}")


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

    Examples:
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
    raise configuration_error(
        f"environment variable {name}: {text[:40]!r} is neither true nor false; "
        "set it to 1, true, yes or on, or to 0, false, no or off"
    )


def expand(text: str | Path) -> Path:
    """Expand a leading ``~`` where that is possible; leave the path alone where it is not."""
    return Path(os.path.expanduser(text))
