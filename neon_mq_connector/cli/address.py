"""Read `--url`: where the broker is, how to log in there, and the virtual host."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import click

_FORM = "amqp://user:password@host:port/vhost"
_DEFAULT_VHOST = "/"


@dataclass(frozen=True)
class Address:
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


def read_address(
    _ctx: click.Context, _option: click.Parameter, value: str | None
) -> Address | None:
    """Read the value of an option; for click, as its callback.

    Raises:
        click.BadParameter: it is no AMQP URL; the message has the form, not the value, in which
            there is a password.
    """
    if value is None:
        return None
    try:
        return parse_address(value)
    except ValueError as error:
        # the error of urlsplit may quote the URL, so it must not become a cause either
        problem = error.args[0] if isinstance(error, _Problem) else "it is no URL"
    raise click.BadParameter(
        f"{problem}; write {_FORM}, with %2F for a slash in the name of a virtual host"
    )


class _Problem(ValueError):
    """A reason that quotes nothing."""


def parse_address(url: str) -> Address:
    """Read an AMQP URL.

    Args:
        url: ``amqp://user:password@host:port/vhost``, or ``amqps`` for TLS. All but the host may
            be percent-encoded. No path, or an empty one, is the virtual host ``/``.

    Returns:
        What it says.

    Raises:
        ValueError: it is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps"):
        raise _Problem("it does not begin with amqp:// or amqps://")
    if not parts.hostname:
        raise _Problem("it has no host")
    if parts.query or parts.fragment:
        raise _Problem("options after ? are not understood, put them into a file for --config")
    if not parts.username or parts.password is None:
        raise _Problem("it has no user and password")
    try:
        port = parts.port
    except ValueError:
        raise _Problem("its port is not a number from 1 to 65535") from None
    return Address(
        host=parts.hostname,
        port=port,
        username=unquote(parts.username),
        password=unquote(parts.password),
        vhost=unquote(parts.path[1:]) or _DEFAULT_VHOST,
        encrypted=parts.scheme == "amqps",
    )
