"""The content of a message, put together from its frames."""

from __future__ import annotations

import struct

from pika.spec import Basic

from neon_mq_connector.testing.embedded.errors import AMQPError

#: The largest body that is taken, in bytes, as RabbitMQ 4.0 has it by default.
MAX_BODY = 16 * 1024 * 1024

_fields = struct.Struct(">HHQ")
_LEAST_HEADER = _fields.size + 2


class Content:
    """A message of which not everything has come.

    Args:
        arguments: of Basic.Publish, encoded.

    Attributes:
        header: the properties, once the content header has come.
        size: of the body, as announced; only so much of a larger one than is taken is kept.
    """

    __slots__ = ("_body", "_received", "arguments", "header", "size")

    def __init__(self, arguments: bytes) -> None:
        self.arguments = arguments
        self.header: bytes | None = None
        self.size = 0
        self._received = 0
        self._body: bytes | bytearray = b""

    @property
    def is_complete(self) -> bool:
        """Whether all of it has come."""
        return self.header is not None and self._received == self.size

    @property
    def body(self) -> bytes:
        """The body, as far as it has come."""
        return bytes(self._body)

    def add_header(self, payload: bytes) -> None:
        """Take a content header.

        Raises:
            AMQPError: 505, it does not belong here.
        """
        if self.header is not None or len(payload) < _LEAST_HEADER:
            raise unexpected_frame()
        class_id, _, self.size = _fields.unpack_from(payload)
        if class_id != Basic.INDEX:
            raise AMQPError(
                505, f"expected content header for class 60, got one for class {class_id} instead"
            )
        self.header = payload[_fields.size :]

    def add_body(self, payload: bytes) -> None:
        """Take a part of the body.

        Raises:
            AMQPError: 505, it does not belong here; 501, it is more than was announced.
        """
        if self.header is None:
            raise unexpected_frame()
        self._received += len(payload)
        if self._received > self.size:
            raise AMQPError(501, f"a body is longer than the {self.size} octets announced")
        if self._received == len(payload):
            self._body = payload
        elif self.size <= MAX_BODY:  # what is too large is refused when all of it has come
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._body)
            self._body += payload


def unexpected_frame() -> AMQPError:
    """Return the error for a frame that does not belong where it came."""
    return AMQPError(505, "expected another kind of frame")
