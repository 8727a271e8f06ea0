"""Deliveries, from the bytes that the parser cut out to the objects that a callback gets.

Done by the thread that consumes, not by the one that reads. The objects are pika's and equal to
what pika would have made. What is malformed ends in `FrameError` and in nothing else; it then
concerns that message only, for the frames around it were sound.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from pika.data import decode_table
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.events import Delivery, RawDelivery

_MAX_KNOWN = 4096

#: Looked up for each answer, and quicker here than in pika's class.
_CONTENT_TYPE = BasicProperties.FLAG_CONTENT_TYPE
_CONTENT_ENCODING = BasicProperties.FLAG_CONTENT_ENCODING
_HEADERS = BasicProperties.FLAG_HEADERS
_DELIVERY_MODE = BasicProperties.FLAG_DELIVERY_MODE
_PRIORITY = BasicProperties.FLAG_PRIORITY
_CORRELATION_ID = BasicProperties.FLAG_CORRELATION_ID

#: Kinds of values, as they are encoded: a short string, an octet, a timestamp, a table.
_TEXT, _OCTET, _TIME, _TABLE = range(4)

#: The properties in the order of the standard, which is that of their flags, from the highest on.
_FIELDS = (
    ("content_type", _CONTENT_TYPE, _TEXT),
    ("content_encoding", _CONTENT_ENCODING, _TEXT),
    ("headers", _HEADERS, _TABLE),
    ("delivery_mode", _DELIVERY_MODE, _OCTET),
    ("priority", _PRIORITY, _OCTET),
    ("correlation_id", _CORRELATION_ID, _TEXT),
    ("reply_to", BasicProperties.FLAG_REPLY_TO, _TEXT),
    ("expiration", BasicProperties.FLAG_EXPIRATION, _TEXT),
    ("message_id", BasicProperties.FLAG_MESSAGE_ID, _TEXT),
    ("timestamp", BasicProperties.FLAG_TIMESTAMP, _TIME),
    ("type", BasicProperties.FLAG_TYPE, _TEXT),
    ("user_id", BasicProperties.FLAG_USER_ID, _TEXT),
    ("app_id", BasicProperties.FLAG_APP_ID, _TEXT),
    ("cluster_id", BasicProperties.FLAG_CLUSTER_ID, _TEXT),
)
_MORE_FLAGS = 0x0001
#: What reading past the end, and what is no UTF-8, raise here.
_MALFORMED = (IndexError, struct.error, UnicodeDecodeError)

_tag = struct.Struct(">Q").unpack_from
_tag_and_bits = struct.Struct(">QB").unpack_from
_short = struct.Struct(">H").unpack_from
_long = struct.Struct(">I").unpack_from
_long_long = struct.Struct(">Q").unpack_from

#: Consumer tags, and exchanges with routing keys, by the bytes that they had. There are few, and
#: those found here were checked before.
_consumer_tags: dict[bytes, str] = {}
_origins: dict[bytes, tuple[str, str]] = {}

_NO_PROPERTIES: dict[str, Any] = dict(vars(BasicProperties()))

_new_method = Basic.Deliver.__new__
_new_properties = BasicProperties.__new__
_new_delivery = tuple.__new__


def decode_delivery(raw: RawDelivery) -> Delivery:
    """Return the objects of a delivery."""
    method, header, body = raw
    return _new_delivery(Delivery, (decode_method(method), _decode_properties(header), body))


def delivery_tag(method: bytes) -> int:
    """Read the delivery tag from the arguments of Basic.Deliver."""
    try:
        tag: int = _tag(method, 1 + method[0])[0]
    except _MALFORMED as error:
        raise FrameError(f"malformed arguments of Basic.Deliver: {error}") from error
    return tag


def content_type(header: bytes) -> str | None:
    """Read the content type from properties, and only that."""
    try:
        if not _short(header)[0] & _CONTENT_TYPE:
            return None
        return header[3 : 3 + header[2]].decode()
    except _MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error


def correlation_id(header: bytes) -> str | None:
    """Read the correlation id from properties, and nothing behind it; None when there is none."""
    try:
        flags: int = _short(header)[0]
        if flags & _MORE_FLAGS:
            raise FrameError("malformed properties: more flags than there are properties")
        if not flags & _CORRELATION_ID:
            return None
        position = 2
        if flags & _CONTENT_TYPE:
            position += 1 + header[position]
        if flags & _CONTENT_ENCODING:
            position += 1 + header[position]
        if flags & _HEADERS:
            position += 4 + _long(header, position)[0]
        if flags & _DELIVERY_MODE:
            position += 1
        if flags & _PRIORITY:
            position += 1
        start = position + 1
        stop = start + header[position]
        if stop > len(header):
            raise FrameError("malformed properties: they end within the correlation id")
        return header[start:stop].decode()
    except _MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error


def decode_method(arguments: bytes) -> Basic.Deliver:
    """Return the method of a delivery, made of its arguments."""
    method = _new_method(Basic.Deliver)
    try:
        position = 1 + arguments[0]
        encoded = arguments[:position]
        tag = _consumer_tags.get(encoded)
        method.consumer_tag = _new_consumer_tag(encoded) if tag is None else tag
        method.delivery_tag, bits = _tag_and_bits(arguments, position)
        method.redelivered = bits & 1 != 0
        encoded = arguments[position + 9 :]
        method.exchange, method.routing_key = _origins.get(encoded) or _new_origin(encoded)
    except _MALFORMED as error:
        raise FrameError(f"malformed arguments of Basic.Deliver: {error}") from error
    return method


def _new_consumer_tag(encoded: bytes) -> str:
    """Check, decode and keep a consumer tag."""
    if len(encoded) != 1 + encoded[0]:
        raise IndexError("they end within the consumer tag")
    tag = encoded[1:].decode()
    if len(_consumer_tags) >= _MAX_KNOWN:
        _consumer_tags.clear()
    _consumer_tags[encoded] = tag
    return tag


def _new_origin(encoded: bytes) -> tuple[str, str]:
    """Check, decode and keep an exchange with a routing key."""
    middle = 1 + encoded[0]
    stop = middle + 1 + encoded[middle]
    if stop > len(encoded):
        raise IndexError("they end within the routing key")
    origin = encoded[1:middle].decode(), encoded[middle + 1 : stop].decode()
    if len(_origins) >= _MAX_KNOWN:
        _origins.clear()
    if stop == len(encoded):  # else it is of any length, and never from a broker
        _origins[encoded] = origin
    return origin


@functools.lru_cache(maxsize=256)
def _present(flags: int) -> tuple[tuple[str, int], ...]:
    """Return the names and kinds of the properties that are there, in their order."""
    return tuple((name, kind) for name, flag, kind in _FIELDS if flags & flag)


def _decode_properties(encoded: bytes) -> BasicProperties:
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
    except _MALFORMED as error:
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
