"""The errors that end a channel or a connection, with RabbitMQ's codes and texts."""

from __future__ import annotations

_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
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
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
_OF_THE_CONNECTION = frozenset((320, 501, 502, 503, 504, 505, 506, 530, 540, 541))
#: The longest text that fits into a close method.
_LONGEST = 255
#: How many octets of a bad frame are told.
_SNIPPET = 16

#: The text of a return whose message no queue takes.
NO_ROUTE = (312, "NO_ROUTE")


class AMQPError(Exception):
    """An operation was refused; its channel or its whole connection ends.

    Args:
        code: the reply code of AMQP.
        explanation: what follows the name of the error in the text.

    Attributes:
        text: the reply text.
        hard: whether the connection ends, not only the channel.
        method: the class and method that failed, when another than the one being handled.
    """

    def __init__(self, code: int, explanation: str) -> None:
        text = f"{_NAMES[code]} - {explanation}"
        encoded = text.encode(errors="surrogateescape")
        if len(encoded) > _LONGEST:
            text = encoded[: _LONGEST - 3].decode(errors="ignore") + "..."
        super().__init__(text)
        self.code = code
        self.text = text
        self.hard = code in _OF_THE_CONNECTION
        self.method: tuple[int, int] | None = None


def frame_error(code: int, kind: int, payload: bytes, what: str = "") -> AMQPError:
    """Return the error for a frame that cannot be used; it ends the connection."""
    which = "all" if len(payload) <= _SNIPPET else f"first {_SNIPPET}"
    octets = ",".join(map(str, payload[:_SNIPPET]))
    error = AMQPError(code, f"type {kind}, {which} octets = <<{octets}>>{what}")
    error.method = (0, 0)
    error.hard = True
    return error


def describe(kind: str, name: str, vhost: str) -> str:
    """Return how RabbitMQ names an exchange or a queue in its texts."""
    return f"{kind} '{name}' in vhost '{vhost}'"


def not_found(what: str) -> AMQPError:
    """Return the error for a queue or an exchange that is not there."""
    return AMQPError(404, f"no {what}")
