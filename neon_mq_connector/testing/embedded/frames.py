"""The frames that the broker sends."""

from __future__ import annotations

import struct

from pika.amqp_object import Method
from pika.frame import Method as MethodFrame
from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Basic

#: Octets of a frame that are not its payload.
FRAME_OVERHEAD = 8
_END = bytes((FRAME_END,))
_CLASS_AND_SIZE = 12

HEARTBEAT = struct.pack(">BHI", FRAME_HEARTBEAT, 0, 0) + _END

_method_start = struct.Struct(">BHII").pack
_frame_start = struct.Struct(">BHI").pack
_header_start = struct.Struct(">BHIHxxQ").pack
_tag_and_bit = struct.Struct(">QB").pack
_confirm = struct.Struct(">BHIIQBB").pack
_CONFIRM_SIZE = 13


def method_frame(channel: int, method: Method) -> bytes:
    """Return the frame of a method without content."""
    frame: bytes = MethodFrame(channel, method).marshal()
    return frame


def deliver_frames(
    channel: int,
    consumer_tag: bytes,
    delivery_tag: int,
    redelivered: bool,
    origin: bytes,
    content: bytes,
) -> bytes:
    """Return the frames of a delivery.

    Args:
        channel: the number of the channel.
        consumer_tag: the consumer tag with its length.
        delivery_tag: the delivery tag.
        redelivered: whether the message was delivered before.
        origin: the names of exchange and routing key with their lengths.
        content: what `content_frames` returned.
    """
    size = 4 + len(consumer_tag) + 9 + len(origin)
    return b"".join(
        (
            _method_start(FRAME_METHOD, channel, size, Basic.Deliver.INDEX),
            consumer_tag,
            _tag_and_bit(delivery_tag, redelivered),
            origin,
            _END,
            content,
        )
    )


def get_frames(
    channel: int, delivery_tag: int, redelivered: bool, origin: bytes, rest: int, content: bytes
) -> bytes:
    """Return the frames that answer Basic.Get with a message; `rest` is how many are left."""
    arguments = _tag_and_bit(delivery_tag, redelivered) + origin + struct.pack(">I", rest)
    start = _method_start(FRAME_METHOD, channel, 4 + len(arguments), Basic.GetOk.INDEX)
    return b"".join((start, arguments, _END, content))


def return_frames(channel: int, code: int, text: str, origin: bytes, content: bytes) -> bytes:
    """Return the frames that give a message back to its publisher."""
    arguments = struct.pack(">HB", code, len(text)) + text.encode() + origin
    start = _method_start(FRAME_METHOD, channel, 4 + len(arguments), Basic.Return.INDEX)
    return b"".join((start, arguments, _END, content))


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the content header and as many body frames as it takes."""
    size = len(body)
    start = _header_start(
        FRAME_HEADER, channel, _CLASS_AND_SIZE + len(properties), Basic.INDEX, size
    )
    if not size:
        return b"".join((start, properties, _END))
    largest = frame_max - FRAME_OVERHEAD
    if size <= largest:
        body_start = _frame_start(FRAME_BODY, channel, size)
        return b"".join((start, properties, _END, body_start, body, _END))
    pieces = [start, properties, _END]
    for position in range(0, size, largest):
        part = body[position : position + largest]
        pieces += (_frame_start(FRAME_BODY, channel, len(part)), part, _END)
    return b"".join(pieces)


def confirm_frame(channel: int, delivery_tag: int, *, multiple: bool, nack: bool) -> bytes:
    """Return the frame that confirms messages to their publisher, or says that they are lost."""
    index = Basic.Nack.INDEX if nack else Basic.Ack.INDEX
    return _confirm(FRAME_METHOD, channel, _CONFIRM_SIZE, index, delivery_tag, multiple, FRAME_END)
