"""A message that a client publishes, put together from its frames."""

from __future__ import annotations

import struct

from pika.spec import Basic

from neon_mq_connector.testing.embedded.errors import AMQPError, unexpected_frame

#: The largest body that is taken, in bytes, as RabbitMQ 4.0 has it by default.
MAX_BODY = 16 * 1024 * 1024

_fields = struct.Struct(">HHQ")
_LEAST_HEADER = _fields.size + 2


class Content:
    """A message whose frames are being received.

    Args:
        method: the payload of its Basic.Publish frame.

    Attributes:
        method: the payload of its Basic.Publish frame.
        header: the properties, encoded; empty until the content header has come.
        size: of the body, as announced.
    """

    __slots__ = ("_body", "_received", "header", "method", "size")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b""
        self.size = 0
        self._received = 0
        self._body = bytearray()

    @property
    def is_complete(self) -> bool:
        """Whether all of it has come."""
        return bool(self.header) and self._received == self.size

    @property
    def body(self) -> bytes:
        """The body; empty if it is larger than what is taken."""
        return bytes(self._body)

    def add_header(self, payload: bytes) -> None:
        """Add a content header.

        Raises:
            AMQPError: 505, it does not belong here.
        """
        if self.header or len(payload) < _LEAST_HEADER:
            raise unexpected_frame()
        class_id, _, self.size = _fields.unpack_from(payload)
        if class_id != Basic.INDEX:
            raise AMQPError(
                505, f"expected content header for class 60, got one for class {class_id} instead"
            )
        self.header = payload[_fields.size :]

    def add_body(self, payload: bytes) -> None:
        """Add a part of the body.

        Raises:
            AMQPError: 505, it does not belong here; 501, it is more than was announced.
        """
        if not self.header:
            raise unexpected_frame()
        self._received += len(payload)
        if self._received > self.size:
            raise AMQPError(501, f"a body is longer than the {self.size} octets announced")
        if self.size <= MAX_BODY:  # a larger one is refused when all of it has come
            self._body += payload
