"""How the name of a server is written in a configuration.

The messages of the errors do not repeat the value: people paste whole URLs, with passwords.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from neon_mq_connector.config.values import Endpoint

_HOST = re.compile(r"[^\s\x00-\x1f\x7f/@:,;?#\[\]\\]{1,253}")


def parse_address(value: Any) -> Endpoint:
    """Read ``"host"``, ``"host:port"``, ``"[v6]:port"``, an IPv6 address, or an object.

    Where no port is given, that of the endpoint is 0.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, Mapping):
        host, port = value.get("server"), value.get("port")
    elif isinstance(value, str):
        host, colon, port = value.strip().rpartition(":")
        is_port = colon and "//" not in value and "@" not in value
        if not is_port or (":" in host and not host.endswith("]")):
            host, port = value, None
    else:
        host = port = None
    if not isinstance(host, str):
        raise ValueError(
            'the value is not a server; write "host", "host:port" or '
            '{"server": "host", "port": 5672}'
        )
    return Endpoint(parse_host(host), 0 if port is None else parse_port(port))


def parse_host(text: str) -> str:
    """Return a host name or an address, without the blanks or brackets around it.

    Raises:
        ValueError: it is neither.
    """
    host = text.strip()
    if not host:
        raise ValueError("the value is empty; name a host, or leave the key out for localhost")
    if "://" in host or "@" in host:
        raise ValueError("the value is a URL; give the host alone, and the user under users")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if is_bracketed or host.count(":") > 1:
        host = host[1:-1] if is_bracketed else host
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("the value is neither a host name nor an IPv6 address") from None
        return host
    if ":" in host:
        raise ValueError("the value holds a port; give it with the key port, or use servers")
    if "," in host or ";" in host:
        raise ValueError("the value names several hosts; list them in servers")
    if _HOST.fullmatch(host) is None:
        raise ValueError("the value is not a host name: too long, or a blank, slash or bracket")
    return host


def parse_port(value: Any) -> int:
    """Return a TCP port, which may be spelt as a text.

    Raises:
        ValueError: it is none.
    """
    text = str(value).strip() if isinstance(value, (int, str)) else ""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError("the value has a port that is not a port (1-65535)")
