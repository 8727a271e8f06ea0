"""How the name of a server is written in a configuration.

The functions raise `ValueError`; its message completes the sentence "the value ...". It does not
repeat the value: people paste whole URLs, with passwords.
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
    """Read ``"host"``, ``"host:port"``, ``"[v6]:port"``, an IPv6 address, or an object."""
    if isinstance(value, ServerAddress):
        return value
    if isinstance(value, Mapping):
        if "server" not in value:
            raise ValueError('has no "server"; write {"server": "host", "port": 5672}')
        host, port = value["server"], value.get("port")
        if not isinstance(host, str):
            raise ValueError('has a "server" that is not a text')
        return ServerAddress(parse_host(host), None if port is None else parse_port(port))
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


def parse_host(text: str) -> str:
    """Return a host name or an address, without the blanks or brackets around it."""
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
        raise ValueError("is neither a host name nor an IPv6 address") from None
    return text


def parse_port(value: Any) -> int:
    """Return a TCP port, which may be spelt as a text."""
    spelt = value.strip() if isinstance(value, str) else ""
    if spelt.isascii() and spelt.isdigit() and len(spelt) <= 5:
        value = int(spelt)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise ValueError("has a port that is not a port (1-65535)")
