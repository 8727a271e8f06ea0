"""The properties of a message as they came, read only as far as the broker has to know them."""

from __future__ import annotations

import re
import struct

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.tables import (
    Table,
    TableError,
    decode_table,
    encode_short_string,
    encode_table,
)

HEADERS = 0x2000
DELIVERY_MODE = 0x1000
PRIORITY = 0x0800
REPLY_TO = 0x0200
EXPIRATION = 0x0100
MESSAGE_ID = 0x0080
USER_ID = 0x0010
#: Those that decide what becomes of a message when it is published.
DECISIVE = HEADERS | PRIORITY | REPLY_TO | EXPIRATION | USER_ID

_PERSISTENT = b"\x02"
_LONGEST_EXPIRATION = 315_360_000_000
_SHORT, _TABLE, _OCTET, _LONG = range(4)
#: In the order of the flags and of the values behind them.
_LAYOUT = (
    (0x8000, _SHORT),  # content type
    (0x4000, _SHORT),  # content encoding
    (HEADERS, _TABLE),
    (DELIVERY_MODE, _OCTET),
    (PRIORITY, _OCTET),
    (0x0400, _SHORT),  # correlation id
    (REPLY_TO, _SHORT),
    (EXPIRATION, _SHORT),
    (MESSAGE_ID, _SHORT),
    (0x0040, _LONG),  # timestamp
    (0x0020, _SHORT),  # type
    (USER_ID, _SHORT),
    (0x0008, _SHORT),  # app id
    (0x0004, _SHORT),  # cluster id
)
_short = struct.Struct(">H")
_long = struct.Struct(">I").unpack_from


class Properties:
    """Properties, cut into the bytes of each; never changed, but copied with a change.

    Args:
        encoded: the flags and what follows.

    Raises:
        AMQPError: they are malformed.
    """

    __slots__ = ("_parts",)

    def __init__(self, encoded: bytes) -> None:
        try:
            self._parts = _split(encoded)
        except (IndexError, struct.error) as error:
            raise AMQPError(541, f"malformed properties: {error}") from error

    def encode(self) -> bytes:
        """Return the flags and what follows."""
        return _short.pack(sum(self._parts)) + b"".join(
            self._parts[flag] for flag, _ in _LAYOUT if flag in self._parts
        )

    def text(self, flag: int) -> str | None:
        """Return a property that is a text, or None when it is not there."""
        part = self._parts.get(flag)
        return None if part is None else part[1:].decode(errors="surrogateescape")

    @property
    def persistent(self) -> bool:
        """Whether the message is to survive a restart."""
        return self._parts.get(DELIVERY_MODE) == _PERSISTENT

    @property
    def priority(self) -> int | None:
        """The priority, or None."""
        part = self._parts.get(PRIORITY)
        return None if part is None else part[0]

    @property
    def time_to_live(self) -> int | None:
        """The expiration in milliseconds, or None.

        Raises:
            AMQPError: it is no number, or out of bounds.
        """
        text = self.text(EXPIRATION)
        if text is None:
            return None
        number = re.match("[+-]?[0-9]+", text)
        if number is None:
            problem = "no_integer"
        elif number.end() < len(text):
            problem = f'{{leftover_string,"{text[number.end() :]}"}}'
        elif int(text) < 0:
            problem = f"{{value_negative,{int(text)}}}"
        elif int(text) > _LONGEST_EXPIRATION:
            problem = f"{{value_too_large,{int(text)}}}"
        else:
            return int(text)
        raise AMQPError(406, f"invalid expiration '{text}': {problem}")

    @property
    def headers(self) -> Table:
        """The headers, empty where there are none.

        Raises:
            AMQPError: they are malformed.
        """
        part = self._parts.get(HEADERS)
        if part is None:
            return {}
        try:
            return decode_table(part, 0)[0]
        except TableError as error:
            raise AMQPError(541, str(error)) from error

    def with_headers(self, headers: Table) -> Properties:
        """Return the properties with other headers."""
        return self._with(HEADERS, encode_table(headers))

    def with_reply_to(self, reply_to: str) -> Properties:
        """Return the properties with another address for answers."""
        return self._with(REPLY_TO, encode_short_string(reply_to))

    def without_expiration(self) -> Properties:
        """Return the properties of a message that does not expire by itself."""
        return self._with(EXPIRATION, None)

    def _with(self, flag: int, part: bytes | None) -> Properties:
        changed = Properties.__new__(Properties)
        changed._parts = {**self._parts}
        if part is None:
            changed._parts.pop(flag, None)
        else:
            changed._parts[flag] = part
        return changed


def _split(encoded: bytes) -> dict[int, bytes]:
    flags: int = _short.unpack_from(encoded)[0]
    position = 2
    parts = {}
    for flag, kind in _LAYOUT:
        if flags & flag:
            if kind == _SHORT:
                stop = position + 1 + encoded[position]
            elif kind == _OCTET:
                stop = position + 1
            elif kind == _TABLE:
                stop = position + 4 + _long(encoded, position)[0]
            else:
                stop = position + 8
            parts[flag] = encoded[position:stop]
            position = stop
    if position > len(encoded):
        raise IndexError("they end within a value")
    return parts
