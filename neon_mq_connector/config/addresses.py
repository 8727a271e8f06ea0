"""How the name of a server is written in a configuration.

A value that is refused is never repeated in the message: people paste whole URLs, with passwords.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HOST = re.compile(r"[^\s\x00-\x1f\x7f/@:,;?#\[\]\\]{1,253}")
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]+)\](?::(?P<port>.*))?", re.DOTALL)


@dataclass(frozen=True)
class ServerAddress:
    """One entry of ``servers``.

    Attributes:
        host: a name or an address; an IPv6 address without brackets.
        port: the TCP port, None for that of the ``port`` setting.
    """

    host: str
    port: int | None = None


def parse_address(value: Any) -> ServerAddress:
    """Read one server in any of the forms that a configuration may use.

    Args:
        value: ``"host"``, ``"host:port"``, ``"[v6]:port"``, a bare IPv6 address, or
            ``{"server": host, "port": port}``.

    Returns:
        The host and, where it was given, the port.

    Raises:
        ValueError: it is none of these; the message completes the sentence "the value ...".
    """
    if isinstance(value, ServerAddress):
        return value
    if isinstance(value, Mapping):
        return _parse_mapping(value)
    if not isinstance(value, str):
        raise ValueError(
            'is not a server; write "host", "host:port" or {"server": "host", "port": 5672}'
        )
    text = value.strip()
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        port = bracketed["port"]
        host = _ipv6(bracketed["host"])
        return ServerAddress(host, None if port is None else parse_port(port))
    if text.count(":") == 1 and "://" not in text and "@" not in text:
        host, _, port = text.partition(":")
        return ServerAddress(parse_host(host), parse_port(port))
    return ServerAddress(parse_host(text))


def _parse_mapping(value: Mapping[Any, Any]) -> ServerAddress:
    if "server" not in value:
        raise ValueError('has no "server"; write {"server": "host", "port": 5672}')
    host = value["server"]
    port = value.get("port")
    if not isinstance(host, str):
        raise ValueError('has a "server" that is not a text')
    return ServerAddress(parse_host(host), None if port is None else parse_port(port))


def parse_host(text: str) -> str:
    """Check the name or address of a server.

    Args:
        text: a host name, an IPv4 address, or an IPv6 address with or without brackets.

    Returns:
        The name or address, without blanks around it and without brackets.

    Raises:
        ValueError: no such name can exist; the message completes the sentence "the value ...".
    """
    host = text.strip()
    if not host:
        raise ValueError("is empty; name a host, or leave the key out for localhost")
    if "://" in host or "@" in host:
        raise ValueError("is a URL; give the host alone, and user and password under users")
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    if host.count(":") > 1:
        return _ipv6(host)
    if ":" in host:
        raise ValueError("holds a port; give it with the key port, or list the server in servers")
    if "," in host or ";" in host:
        raise ValueError("names several hosts; list them in servers")
    if _HOST.fullmatch(host) is None:
        raise ValueError("is not a host name; it is too long or has a blank, a slash or a bracket")
    return host


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        pass
    else:
        return text
    raise ValueError("is neither a host name nor an IPv6 address")


def parse_port(value: Any) -> int:
    """Check a TCP port.

    Args:
        value: a whole number from 1 to 65535, or a text that spells one.

    Returns:
        The number.

    Raises:
        ValueError: it is no port; the message completes the sentence "the value ...".
    """
    spelt = value.strip() if isinstance(value, str) else ""
    if spelt.isascii() and spelt.isdigit() and len(spelt) <= 5:
        value = int(spelt)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise ValueError("has a port that is not a port (1-65535)")
