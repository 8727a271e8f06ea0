"""The frames that the broker sends."""

from __future__ import annotations

import struct
from collections.abc import Callable

from pika.amqp_object import Method
from pika.frame import Method as MethodFrame
from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Basic

#: Octets of a frame that are not its payload.
FRAME_OVERHEAD = 8
_END = bytes((FRAME_END,))
_CLASS_AND_SIZE = 12

HEARTBEAT = struct.pack(">BHI", FRAME_HEARTBEAT, 0, 0) + _END

_method_start = struct.Struct(">BHII").pack
_body_start = struct.Struct(">BHI").pack
_header_start = struct.Struct(">BHIHxxQ").pack
_confirm = struct.Struct(">BHIIQBB").pack
_CONFIRM_SIZE = 13


def method_frame(channel: int, method: Method) -> bytes:
    """Return the frame of a method without content."""
    frame: bytes = MethodFrame(channel, method).marshal()
    return frame


class FrameWriter:
    """Send the frames of one channel.

    Args:
        channel: the number of the channel.
        send: takes bytes for the client.
        frame_max: the largest frame that was negotiated.
    """

    def __init__(self, channel: int, send: Callable[[bytes], None], frame_max: int) -> None:
        self.channel = channel
        self._send = send
        self._largest_body = frame_max - FRAME_OVERHEAD

    def method(self, method: Method) -> None:
        """Send a method without content."""
        self._send(method_frame(self.channel, method))

    def message(self, index: int, arguments: bytes, properties: bytes, body: bytes) -> None:
        """Send a message.

        Args:
            index: of the method that it comes with: Basic.Deliver, GetOk or Return.
            arguments: of that method, encoded.
            properties: of the message, encoded.
            body: of the message; it is split into as many frames as it takes.
        """
        channel, size, largest = self.channel, len(body), self._largest_body
        header_size = _CLASS_AND_SIZE + len(properties)
        pieces = [
            _method_start(FRAME_METHOD, channel, 4 + len(arguments), index),
            arguments,
            _END,
            _header_start(FRAME_HEADER, channel, header_size, Basic.INDEX, size),
            properties,
            _END,
        ]
        for position in range(0, size, largest):
            part = body[position : position + largest]
            pieces += (_body_start(FRAME_BODY, channel, len(part)), part, _END)
        self._send(b"".join(pieces))

    def confirm(self, delivery_tag: int, *, multiple: bool, nack: bool) -> None:
        """Confirm messages to their publisher, or tell that they were refused."""
        index = Basic.Nack.INDEX if nack else Basic.Ack.INDEX
        self._send(
            _confirm(
                FRAME_METHOD, self.channel, _CONFIRM_SIZE, index, delivery_tag, multiple, FRAME_END
            )
        )
