"""The properties of a message as bytes, in both directions, by one table.

The bytes and the objects are those that pika would make. What is malformed ends in `FrameError` and
in nothing else; it then concerns that message only, for the frames around it were sound.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

from pika.data import decode_table, encode_table
from pika.spec import BasicProperties

from neon_mq_connector.errors import FrameError

_MORE_FLAGS = 0x0001
#: What reading past the end, and what is no UTF-8, raise here.
MALFORMED = (IndexError, struct.error, UnicodeDecodeError)

_octet = struct.Struct("B").pack
_size = struct.Struct(">I").pack
_text_start = struct.Struct(">cI").pack
_number = struct.Struct(">ci").pack
_timestamp = struct.Struct(">Q").pack
_flags = struct.Struct(">H").pack
_short = struct.Struct(">H").unpack_from
_long = struct.Struct(">I").unpack_from
_long_long = struct.Struct(">Q").unpack_from

#: Kinds of values, as they are encoded: a short string, an octet, a timestamp, a table.
_TEXT, _OCTET, _TIME, _TABLE = range(4)
_KINDS = {"headers": _TABLE, "delivery_mode": _OCTET, "priority": _OCTET, "timestamp": _TIME}
_NO_PROPERTIES: dict[str, Any] = dict(vars(BasicProperties()))
#: The properties in the order of the standard, which is that of their flags, from the highest on.
_FIELDS = [
    (name, int(getattr(BasicProperties, f"FLAG_{name.upper()}")), _KINDS.get(name, _TEXT))
    for name in _NO_PROPERTIES
]
_CORRELATION_ID = BasicProperties.FLAG_CORRELATION_ID
_MESSAGE_ID = BasicProperties.FLAG_MESSAGE_ID
_TIMESTAMP = BasicProperties.FLAG_TIMESTAMP

_new_properties = BasicProperties.__new__


class EncodedProperties(bytes):
    """Properties as they are put on the wire, encoded before the message is."""

    __slots__ = ()


class PropertiesTemplate:
    """The properties of persistent messages that differ in ids and time only.

    The expiration is in milliseconds, as text.
    """

    __slots__ = ("_after", "_before", "_between", "_flags")

    def __init__(
        self,
        *,
        content_type: str,
        app_id: str = "",
        reply_to: str | None = None,
        expiration: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        # the flags and the pieces in the order of the standard, between which the others come
        pieces = [
            encode_properties(BasicProperties(**each))
            for each in (
                {"content_type": content_type, "headers": headers, "delivery_mode": 2},
                {"reply_to": reply_to, "expiration": expiration},
                {"app_id": app_id or None},
            )
        ]
        self._flags = _CORRELATION_ID | _MESSAGE_ID | _TIMESTAMP
        for each in pieces:
            self._flags |= _short(each)[0]
        self._before, self._between, self._after = [each[2:] for each in pieces]

    def fill(self, message_id: str, correlation_id: str, timestamp: int) -> EncodedProperties:
        """Return the properties of one message; an id that does not fit is left out."""
        own, flags = _fitting(message_id), self._flags
        other = own if correlation_id is message_id else _fitting(correlation_id)
        if not own:
            flags &= ~_MESSAGE_ID
        if not other:
            flags &= ~_CORRELATION_ID
        return EncodedProperties(
            b"".join(
                (
                    _flags(flags),
                    self._before,
                    other,
                    self._between,
                    own,
                    _timestamp(timestamp),
                    self._after,
                )
            )
        )


def _fitting(text: str) -> bytes:
    """Encode a short string; nothing if it has more than 255 bytes, or cannot be sent."""
    try:
        return _short_string(text)
    except (struct.error, UnicodeEncodeError):
        return b""


def encode_properties(properties: BasicProperties) -> bytes:
    """Encode properties to the bytes that pika would make of them, in a part of the time.

    Raises:
        AssertionError, struct.error, pika.exceptions.AMQPError: as pika does.
    """
    if properties.__class__ is BasicProperties:
        values, flags, pieces = vars(properties), 0, [b""]
        try:
            for name, flag, encode in _ENCODERS:
                value = values[name]
                if value is not None:
                    flags |= flag
                    pieces.append(encode(value))
            pieces[0] = _flags(flags)
            return b"".join(pieces)
        except Exception:  # a value of another type: pika encodes it, or raises its own error
            pass
    return b"".join(properties.encode())


def _table(table: dict[str, Any]) -> bytes:
    """Encode headers; those whose values are all texts or small numbers faster than pika does."""
    pieces = [b""]
    for key, value in table.items():
        kind = type(value)
        if kind is str:
            encoded = value.encode()
            pieces += (_short_string(key), _text_start(b"S", len(encoded)), encoded)
        elif kind is int and -0x8000_0000 <= value <= 0x7FFF_FFFF:
            pieces += (_short_string(key), _number(b"I", value))
        else:
            whole: list[bytes] = []
            encode_table(whole, table)
            return b"".join(whole)
    encoded = b"".join(pieces)
    return _size(len(encoded)) + encoded


def _short_string(value: str) -> bytes:
    encoded = value.encode()
    return _octet(len(encoded)) + encoded


_ENCODE = {_TEXT: _short_string, _OCTET: _octet, _TIME: _timestamp, _TABLE: _table}
_ENCODERS: list[tuple[str, int, Callable[[Any], bytes]]] = [
    (name, flag, _ENCODE[kind]) for name, flag, kind in _FIELDS
]


def _read_text(wanted: str, header: bytes) -> str | None:
    """Read a short string from properties, and nothing behind it; None when there is none."""
    try:
        flags: int = _short(header)[0]
        if flags & _MORE_FLAGS:
            raise FrameError("malformed properties: more flags than there are properties")
        stop = 2
        for name, kind in _present(flags):
            start = stop
            if kind == _TEXT:
                stop += 1 + header[start]
            elif kind == _TABLE:
                stop += 4 + _long(header, start)[0]
            else:
                stop += 1 if kind == _OCTET else 8
            if name == wanted:
                if stop > len(header):
                    raise FrameError(f"malformed properties: they end within the {wanted}")
                return header[start + 1 : stop].decode()
    except MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error
    return None


content_type = functools.partial(_read_text, "content_type")
correlation_id = functools.partial(_read_text, "correlation_id")


@functools.lru_cache(maxsize=256)
def _present(flags: int) -> tuple[tuple[str, int], ...]:
    """Return the names and kinds of the properties that are there, in their order."""
    return tuple((name, kind) for name, flag, kind in _FIELDS if flags & flag)


def decode_properties(encoded: bytes) -> BasicProperties:
    """Decode properties as pika does, and refuse what pika ignores.

    Each value moves the position on, so that one look at its end finds any that was cut short.
    """
    properties = _new_properties(BasicProperties)
    properties.__dict__ = values = _NO_PROPERTIES.copy()
    try:
        flags: int = _short(encoded)[0]
        stop = 2
        for name, kind in _present(flags):
            if kind == _TEXT:
                start, stop = stop + 1, stop + 1 + encoded[stop]
                values[name] = encoded[start:stop].decode()
            elif kind == _OCTET:
                values[name] = encoded[stop]
                stop += 1
            elif kind == _TIME:
                values[name] = _long_long(encoded, stop)[0]
                stop += 8
            else:
                values[name], stop = _decode_headers(encoded, stop)
    except MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error
    if stop > len(encoded):
        raise FrameError("malformed properties: they end within a value")
    if flags & _MORE_FLAGS:
        raise FrameError("malformed properties: more flags than there are properties")
    return properties


def _decode_headers(encoded: bytes, start: int) -> tuple[dict[Any, Any], int]:
    """Decode the table of headers, by pika."""
    try:
        stop = start + 4 + _long(encoded, start)[0]
        headers, end = decode_table(encoded, start)
    except RecursionError:  # its trace would fill the log
        raise FrameError("malformed properties: headers are nested too deep") from None
    except Exception as error:  # whatever pika meets: a year 50,000, an unknown type, no number
        what = f"{type(error).__name__}: {error}"
        raise FrameError(f"malformed properties: headers cannot be read: {what}") from error
    if end != stop:
        raise FrameError("malformed properties: the headers are not as long as they say")
    return headers, end
