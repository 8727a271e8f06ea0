"""The errors that end a channel or a connection, with RabbitMQ's codes and texts."""

from __future__ import annotations

_NAMES = {
    320: "CONNECTION_FORCED",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
#: The errors that end a channel; all others end the connection.
_OF_THE_CHANNEL = frozenset((403, 404, 405, 406))
#: The longest text that fits into a close method.
_LONGEST = 255
#: How many octets of a bad frame are told.
_SNIPPET = 16


class AMQPError(Exception):
    """An operation was refused; its channel or its whole connection ends.

    Args:
        code: the reply code of AMQP.
        explanation: what follows the name of the error in the text.

    Attributes:
        text: the reply text.
        hard: whether the connection ends, not only the channel.
        method: the index of the method that failed; 0 for none, None for the one being handled.
    """

    def __init__(self, code: int, explanation: str, *, method: int | None = None) -> None:
        text = f"{_NAMES[code]} - {explanation}"
        encoded = text.encode(errors="surrogateescape")
        if len(encoded) > _LONGEST:
            text = encoded[: _LONGEST - 3].decode(errors="ignore") + "..."
        super().__init__(text)
        self.code = code
        self.text = text
        self.hard = code not in _OF_THE_CHANNEL
        self.method = method

    @property
    def close_arguments(self) -> tuple[int, str, int, int]:
        """The arguments of the close method that tells a client of it."""
        method = self.method or 0
        return self.code, self.text, method >> 16, method & 0xFFFF


def frame_error(code: int, kind: int, payload: bytes, what: str = "") -> AMQPError:
    """Return the error for a frame that cannot be used; it ends the connection."""
    which = "all" if len(payload) <= _SNIPPET else f"first {_SNIPPET}"
    octets = ",".join(map(str, payload[:_SNIPPET]))
    return AMQPError(code, f"type {kind}, {which} octets = <<{octets}>>{what}", method=0)


def unexpected_frame() -> AMQPError:
    """Return the error for a frame that does not belong where it came."""
    return AMQPError(505, "expected another kind of frame", method=0)


def describe(kind: str, name: str, vhost: str) -> str:
    """Return how RabbitMQ names an exchange or a queue in its texts."""
    return f"{kind} '{name}' in vhost '{vhost}'"


def not_found(kind: str, name: str, vhost: str) -> AMQPError:
    """Return the error for a queue or an exchange that is not there."""
    return AMQPError(404, f"no {describe(kind, name, vhost)}")
