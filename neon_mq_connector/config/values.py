"""The small values of a configuration, and the words for what is wrong in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neon_mq_connector.errors import ConfigurationError


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


def mistake(text: str) -> ConfigurationError:
    """Return the error for something that is wrong in a configuration.

    What would break the line of its message is escaped: names and paths may hold anything.
    """
    if not text.isprintable():
        pieces = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        text = "".join(pieces)
    return ConfigurationError(text)


def kind_of(value: Any) -> str:
    """Return the kind of a value in the words of a configuration file, without quoting it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a value of type {type(value).__name__}"
