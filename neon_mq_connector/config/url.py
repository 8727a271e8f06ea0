"""An AMQP URL: where the broker is, how to log in there, and the virtual host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

URL_VARIABLE = "NEON_MQ_URL"
URL_FORM = "amqp://user:password@host:port/vhost"
#: The entry under ``users`` for services that have no user and password of their own.
DEFAULT_ENTRY = "default"

_DEFAULT_VHOST = "/"


@dataclass(frozen=True)
class BrokerURL:
    """What an AMQP URL says.

    Attributes:
        host: the broker's host.
        port: its port; None for the usual one.
        username: who logs in.
        password: with what; not in the ``repr``.
        vhost: the virtual host.
        encrypted: whether the URL began with ``amqps``.
    """

    host: str
    port: int | None
    username: str
    password: str = field(repr=False)
    vhost: str
    encrypted: bool

    def to_config(self) -> dict[str, Any]:
        """Return the same as a configuration that serves every service."""
        config: dict[str, Any] = {
            "server": self.host,
            "users": {DEFAULT_ENTRY: {"user": self.username, "password": self.password}},
            "tls": self.encrypted,
        }
        if self.port is not None:
            config["port"] = self.port
        return config


class _Problem(ValueError):
    """A reason that quotes nothing of the URL."""


def parse_url(text: str) -> BrokerURL:
    """Read an AMQP URL.

    Args:
        text: ``amqp://user:password@host:port/vhost``, or ``amqps`` for TLS. All but the host may
            be percent-encoded. No path, or an empty one, is the virtual host ``/``.

    Returns:
        What it says.

    Raises:
        ValueError: it is no such URL. The message says why and has the form; it does not repeat
            the value, in which there is a password.
    """
    try:
        return _parse(text)
    except ValueError as error:
        # the error of urlsplit may quote the URL, so it must not become a cause either
        problem = error.args[0] if isinstance(error, _Problem) else "it is no URL"
    raise ValueError(
        f"{problem}; write {URL_FORM}, with %2F for a slash in the name of a virtual host"
    )


def _parse(text: str) -> BrokerURL:
    parts = urlsplit(text)
    if parts.scheme not in ("amqp", "amqps"):
        raise _Problem("it does not begin with amqp:// or amqps://")
    if not parts.hostname:
        raise _Problem("it has no host")
    if parts.query or parts.fragment:
        raise _Problem("options after ? are not understood, put them into a configuration file")
    if not parts.username or parts.password is None:
        raise _Problem("it has no user and password")
    try:
        port = parts.port
    except ValueError:
        raise _Problem("its port is not a number from 1 to 65535") from None
    return BrokerURL(
        host=parts.hostname,
        port=port,
        username=unquote(parts.username),
        password=unquote(parts.password),
        vhost=unquote(parts.path[1:]) or _DEFAULT_VHOST,
        encrypted=parts.scheme == "amqps",
    )
