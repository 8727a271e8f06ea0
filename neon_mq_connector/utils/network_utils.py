"""An import path that services have always used."""

from __future__ import annotations

from typing import Any

from neon_mq_connector import codec
from neon_mq_connector.control.probe import is_port_open


def dict_to_b64(data: dict[Any, Any], charset: str = "utf-8") -> bytes:
    """Write a dict as `codec.dict_to_b64` does; the charset is ignored: it is all ASCII."""
    return codec.dict_to_b64(data)


def b64_to_dict(data: bytes | str, charset: str = "utf-8") -> dict[Any, Any]:
    """Read a message body as `codec.b64_to_dict` does; the charset is ignored."""
    return codec.b64_to_dict(data)


def check_port_is_open(addr: str, port: int) -> bool:
    """Whether something listens at a TCP port of a host name or address."""
    return is_port_open(addr, port)


__all__ = ["b64_to_dict", "check_port_is_open", "dict_to_b64"]
