"""Frames to send, made in the calling thread: a whole message, or a settlement, as one `bytes`.

pika's `basic_publish` makes three frames and sends each apart, on the I/O thread. Made here, a
message can be put on the wire by any thread in one piece, so that no other frame gets in between.
The bytes are the very same.
"""

from __future__ import annotations

import struct
from typing import Any

from pika.data import encode_table
from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, Basic, BasicProperties

from neon_mq_connector.topology import check_name

#: Octets of a frame that are not its payload: type, channel and size before it, the end after.
FRAME_OVERHEAD = 8

#: Octets of a content header's payload before the properties: class, weight and body size.
_HEADER_FIELDS = 12

_MAX_NAME = 255
_MAX_METHOD_FRAMES = 4096

_END = bytes((FRAME_END,))
_octet = struct.Struct("B").pack
_size = struct.Struct(">I").pack
_text_start = struct.Struct(">cI").pack
_number = struct.Struct(">ci").pack
_timestamp = struct.Struct(">Q").pack
_flags = struct.Struct(">H").pack
_frame_start = struct.Struct(">BHI").pack
_header_start = struct.Struct(">BHIHxxQ").pack
_settlement = struct.Struct(">BHIIQBB").pack
_SETTLEMENT_SIZE = 13

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

#: The method frames made before: a program publishes to few places.
_method_frames: dict[tuple[int, str, str, bool], bytes] = {}


class EncodedProperties(bytes):
    """Properties as they are put on the wire, encoded before the message is."""

    __slots__ = ()


class PropertiesTemplate:
    """Persistent messages' properties of which only the ids and the time differ.

    Args:
        content_type: of the body.
        app_id: the name of the sender; empty for none.
        reply_to: where an answer is to go.
        expiration: how long a message may wait in a queue, in milliseconds, as text.
        headers: application headers.
    """

    __slots__ = ("_after_correlation_id", "_app_id", "_start")

    def __init__(
        self,
        *,
        content_type: str,
        app_id: str = "",
        reply_to: str | None = None,
        expiration: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        every = BasicProperties(
            content_type=content_type,
            headers=headers,
            delivery_mode=2,
            correlation_id="",
            reply_to=reply_to,
            expiration=expiration,
            message_id="",
            timestamp=0,
            app_id=app_id or None,
        )
        # the frame as a whole tells the flags; the pieces follow in the order of the standard
        flags = encode_properties(every)[:2]
        before = BasicProperties(content_type=content_type, headers=headers, delivery_mode=2)
        between = BasicProperties(reply_to=reply_to, expiration=expiration)
        after = BasicProperties(app_id=app_id or None)
        self._start = flags + encode_properties(before)[2:]
        self._after_correlation_id = encode_properties(between)[2:]
        self._app_id = encode_properties(after)[2:]

    def fill(self, message_id: str, correlation_id: str, timestamp: int) -> EncodedProperties:
        """Return the properties of one message.

        Raises:
            ValueError: an id has more than 255 bytes, or is no text that can be sent.
        """
        own = message_id.encode()
        other = own if correlation_id is message_id else correlation_id.encode()
        if len(own) > _MAX_NAME or len(other) > _MAX_NAME:
            raise ValueError("an id of more than 255 bytes does not fit into a property")
        return EncodedProperties(
            b"".join(
                (
                    self._start,
                    _octet(len(other)),
                    other,
                    self._after_correlation_id,
                    _octet(len(own)),
                    own,
                    _timestamp(timestamp),
                    self._app_id,
                )
            )
        )


def encode_publish(
    channel: int,
    exchange: str,
    routing_key: str,
    properties: BasicProperties | EncodedProperties,
    body: bytes,
    *,
    mandatory: bool,
    frame_max: int,
) -> bytes:
    """Return all frames of one message.

    Args:
        channel: the number of the channel.
        exchange: the name of the exchange; empty for the default one.
        routing_key: the routing key.
        properties: the properties of the message.
        body: the body.
        mandatory: whether the broker returns the message when no queue takes it.
        frame_max: the largest frame that was negotiated, in bytes, overhead included.

    Returns:
        The method frame, the content header and as many body frames as it takes.

    Raises:
        TypeError, ValueError: a name cannot be used (see `check_name`), or the properties do not
            fit into a frame.
        AssertionError, struct.error, pika.exceptions.AMQPError: pika cannot encode a property.
    """
    method_frame = _method_frames.get((channel, exchange, routing_key, mandatory))
    if method_frame is None:
        method_frame = _publish_method(channel, exchange, routing_key, mandatory)
    encoded: bytes = (
        properties if isinstance(properties, EncodedProperties) else encode_properties(properties)
    )
    header_size = _HEADER_FIELDS + len(encoded)
    size = len(body)
    largest = frame_max - FRAME_OVERHEAD
    if header_size > largest:
        raise ValueError(
            f"the properties of a message to exchange {exchange!r} with routing key "
            f"{routing_key!r} take {len(encoded)} bytes; with the negotiated frame size "
            f"of {frame_max} they may take {largest - _HEADER_FIELDS}"
        )
    header = _header_start(FRAME_HEADER, channel, header_size, Basic.INDEX, size)
    if not size:
        return b"".join((method_frame, header, encoded, _END))
    if size <= largest:
        start = _frame_start(FRAME_BODY, channel, size)
        return b"".join((method_frame, header, encoded, _END, start, body, _END))
    pieces = [method_frame, header, encoded, _END]
    whole = memoryview(body)
    for offset in range(0, size, largest):
        part = whole[offset : offset + largest]
        pieces += (_frame_start(FRAME_BODY, channel, len(part)), part, _END)  # type: ignore[arg-type]
    return b"".join(pieces)


def encode_settlement(channel: int, method: int, delivery_tag: int, bits: int) -> bytes:
    """Return the frame that settles a delivery.

    Args:
        channel: the number of the channel.
        method: the index of ``Basic.Ack``, ``Basic.Nack`` or ``Basic.Reject``.
        delivery_tag: of the delivery.
        bits: the flags of that method.
    """
    return _settlement(
        FRAME_METHOD, channel, _SETTLEMENT_SIZE, method, delivery_tag, bits, FRAME_END
    )


def encode_properties(properties: BasicProperties) -> bytes:
    """Encode properties to the bytes that pika would make of them, in a part of the time.

    Raises:
        AssertionError, struct.error, pika.exceptions.AMQPError: as pika does.
    """
    if properties.__class__ is BasicProperties:
        try:
            return _common_properties(properties)
        except Exception:  # not even odd values are common; pika knows what to say to them
            pass
    return b"".join(properties.encode())


def _common_properties(properties: BasicProperties) -> bytes:
    """Encode properties whose values are of the type that they should be.

    Raises:
        Exception: they are not; of any kind.
    """
    flags = 0
    pieces: list[bytes] = [b""]
    if properties.content_type is not None:
        flags = _CONTENT_TYPE
        pieces.append(_short_string(properties.content_type))
    if properties.content_encoding is not None:
        flags |= _CONTENT_ENCODING
        pieces.append(_short_string(properties.content_encoding))
    if properties.headers is not None:
        flags |= _HEADERS
        pieces.append(_table(properties.headers))
    if properties.delivery_mode is not None:
        flags |= _DELIVERY_MODE
        pieces.append(_octet(properties.delivery_mode))
    if properties.priority is not None:
        flags |= _PRIORITY
        pieces.append(_octet(properties.priority))
    if properties.correlation_id is not None:
        flags |= _CORRELATION_ID
        pieces.append(_short_string(properties.correlation_id))
    if properties.reply_to is not None:
        flags |= _REPLY_TO
        pieces.append(_short_string(properties.reply_to))
    if properties.expiration is not None:
        flags |= _EXPIRATION
        pieces.append(_short_string(properties.expiration))
    if properties.message_id is not None:
        flags |= _MESSAGE_ID
        pieces.append(_short_string(properties.message_id))
    if properties.timestamp is not None:
        flags |= _TIMESTAMP
        pieces.append(_timestamp(properties.timestamp))
    if properties.type is not None:
        flags |= _TYPE
        pieces.append(_short_string(properties.type))
    if properties.user_id is not None:
        flags |= _USER_ID
        pieces.append(_short_string(properties.user_id))
    if properties.app_id is not None:
        flags |= _APP_ID
        pieces.append(_short_string(properties.app_id))
    if properties.cluster_id is not None:
        flags |= _CLUSTER_ID
        pieces.append(_short_string(properties.cluster_id))
    pieces[0] = _flags(flags)
    return b"".join(pieces)


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


def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the method frame of a message, and keep it for the next."""
    check_name("exchange", exchange)
    check_name("routing key" if exchange else "queue", routing_key)
    arguments = b"".join(
        (
            struct.pack(">IH", Basic.Publish.INDEX, 0),
            _short_string(exchange),
            _short_string(routing_key),
            b"\x01" if mandatory else b"\x00",
        )
    )
    frame = _frame_start(FRAME_METHOD, channel, len(arguments)) + arguments + _END
    if len(_method_frames) >= _MAX_METHOD_FRAMES:
        _method_frames.clear()
    _method_frames[channel, exchange, routing_key, mandatory] = frame
    return frame
