"""Frames to send, made in the calling thread: a whole message, or a settlement, as one `bytes`.

pika's `basic_publish` makes three frames and sends each apart, on the I/O thread. Made here, a
message can be put on the wire by any thread in one piece, so that no other frame gets in between.
The bytes are the very same.
"""

from __future__ import annotations

import functools
import struct

from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, Basic, BasicProperties

from neon_mq_connector.link.properties import EncodedProperties, encode_properties
from neon_mq_connector.topology import check_name

#: Octets of a frame that are not its payload: type, channel and size before it, the end after.
FRAME_OVERHEAD = 8

#: Octets of a content header's payload before the properties: class, weight and body size.
HEADER_FIELDS = 12

_END = bytes((FRAME_END,))
_frame_start = struct.Struct(">BHI").pack
_header_start = struct.Struct(">BHIHxxQ").pack
_settlement = struct.Struct(">BHIIQBB").pack
_SETTLEMENT_SIZE = 13


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
    """Return the method frame, the content header and the body frames of one message.

    `frame_max` is the largest frame that was negotiated, in bytes, overhead included.

    Raises:
        TypeError, ValueError: a name cannot be used (see `check_name`), or the properties do not
            fit into a frame.
        AssertionError, struct.error, pika.exceptions.AMQPError: pika cannot encode a property.
    """
    method_frame = _publish_method(channel, exchange, routing_key, mandatory)
    encoded: bytes = (
        properties if isinstance(properties, EncodedProperties) else encode_properties(properties)
    )
    header_size = HEADER_FIELDS + len(encoded)
    size = len(body)
    largest = frame_max - FRAME_OVERHEAD
    if header_size > largest:
        raise ValueError(
            f"the properties of a message to exchange {exchange!r} with routing key "
            f"{routing_key!r} take {len(encoded)} bytes; with the negotiated frame size "
            f"of {frame_max} they may take {largest - HEADER_FIELDS}"
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
    """Return the frame of Basic.Ack, Nack or Reject, given by its index, with its flags as bits."""
    return _settlement(
        FRAME_METHOD, channel, _SETTLEMENT_SIZE, method, delivery_tag, bits, FRAME_END
    )


@functools.lru_cache(maxsize=4096)
def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the method frame of a message; a program publishes to few places."""
    check_name("exchange", exchange)
    check_name("routing key" if exchange else "queue", routing_key)
    names = [name.encode() for name in (exchange, routing_key)]
    texts = b"".join(bytes((len(name),)) + name for name in names)
    arguments = struct.pack(">IH", Basic.Publish.INDEX, 0) + texts + bytes((mandatory,))
    return _frame_start(FRAME_METHOD, channel, len(arguments)) + arguments + _END
