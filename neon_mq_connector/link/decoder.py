"""Deliveries, from the bytes that the parser cut out to the objects that a callback gets.

Done by the thread that consumes, not by the one that reads. The objects are pika's and equal to
what pika would have made. What is malformed ends in `FrameError` and in nothing else; it then
concerns that message only, for the frames around it were sound.
"""

from __future__ import annotations

import struct
from typing import Any

from pika.data import decode_table
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import FrameError
from neon_mq_connector.link.events import Delivery, RawDelivery

_MAX_KNOWN = 4096

#: Looked up for each message, and quicker here than in pika's class.
_CONTENT_TYPE = BasicProperties.FLAG_CONTENT_TYPE
_CONTENT_ENCODING = BasicProperties.FLAG_CONTENT_ENCODING
_HEADERS = BasicProperties.FLAG_HEADERS
_DELIVERY_MODE = BasicProperties.FLAG_DELIVERY_MODE
_PRIORITY = BasicProperties.FLAG_PRIORITY
_CORRELATION_ID = BasicProperties.FLAG_CORRELATION_ID
_REPLY_TO = BasicProperties.FLAG_REPLY_TO
_EXPIRATION = BasicProperties.FLAG_EXPIRATION
_MESSAGE_ID = BasicProperties.FLAG_MESSAGE_ID
_TIMESTAMP = BasicProperties.FLAG_TIMESTAMP
_TYPE = BasicProperties.FLAG_TYPE
_USER_ID = BasicProperties.FLAG_USER_ID
_APP_ID = BasicProperties.FLAG_APP_ID
_CLUSTER_ID = BasicProperties.FLAG_CLUSTER_ID
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
    """Return the objects of a delivery.

    Raises:
        FrameError: the bytes are malformed.
    """
    method, header, body = raw
    return _new_delivery(Delivery, (decode_method(method), _decode_properties(header), body))


def delivery_tag(method: bytes) -> int:
    """Read the delivery tag from the arguments of Basic.Deliver.

    Raises:
        FrameError: the bytes are malformed.
    """
    try:
        tag: int = _tag(method, 1 + method[0])[0]
    except _MALFORMED as error:
        raise FrameError(f"malformed arguments of Basic.Deliver: {error}") from error
    return tag


def content_type(header: bytes) -> str | None:
    """Read the content type from properties, and only that.

    Raises:
        FrameError: the bytes are malformed.
    """
    try:
        if not _short(header)[0] & BasicProperties.FLAG_CONTENT_TYPE:
            return None
        return header[3 : 3 + header[2]].decode()
    except _MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error


def correlation_id(header: bytes) -> str | None:
    """Read the correlation id, and nothing else, from the properties.

    Returns:
        The correlation id; None when the message has none.

    Raises:
        FrameError: the bytes are malformed up to the correlation id.
    """
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
    """Return the method of a delivery, made of its arguments.

    Raises:
        FrameError: the bytes are malformed.
    """
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


def _decode_properties(encoded: bytes) -> BasicProperties:
    """Decode properties as pika does, and refuse what pika ignores.

    Each value moves the position on, so that one look at its end finds any that was cut short.
    """
    properties = _new_properties(BasicProperties)
    properties.__dict__ = values = _NO_PROPERTIES.copy()
    try:
        flags: int = _short(encoded)[0]
        stop = 2
        if flags & _CONTENT_TYPE:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["content_type"] = encoded[start:stop].decode()
        if flags & _CONTENT_ENCODING:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["content_encoding"] = encoded[start:stop].decode()
        if flags & _HEADERS:
            values["headers"], stop = _decode_headers(encoded, stop)
        if flags & _DELIVERY_MODE:
            values["delivery_mode"] = encoded[stop]
            stop += 1
        if flags & _PRIORITY:
            values["priority"] = encoded[stop]
            stop += 1
        if flags & _CORRELATION_ID:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["correlation_id"] = encoded[start:stop].decode()
        if flags & _REPLY_TO:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["reply_to"] = encoded[start:stop].decode()
        if flags & _EXPIRATION:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["expiration"] = encoded[start:stop].decode()
        if flags & _MESSAGE_ID:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["message_id"] = encoded[start:stop].decode()
        if flags & _TIMESTAMP:
            values["timestamp"] = _long_long(encoded, stop)[0]
            stop += 8
        if flags & _TYPE:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["type"] = encoded[start:stop].decode()
        if flags & _USER_ID:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["user_id"] = encoded[start:stop].decode()
        if flags & _APP_ID:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["app_id"] = encoded[start:stop].decode()
        if flags & _CLUSTER_ID:
            start, stop = stop + 1, stop + 1 + encoded[stop]
            values["cluster_id"] = encoded[start:stop].decode()
    except _MALFORMED as error:
        raise FrameError(f"malformed properties: {error}") from error
    if stop > len(encoded):
        raise FrameError("malformed properties: they end within a value")
    if flags & _MORE_FLAGS:
        raise FrameError("malformed properties: more flags than there are properties")
    return properties


def _decode_headers(encoded: bytes, start: int) -> tuple[dict[Any, Any], int]:
    """Decode the table of headers, by pika.

    Raises:
        FrameError: pika cannot, or the table is not as long as it says.
    """
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
