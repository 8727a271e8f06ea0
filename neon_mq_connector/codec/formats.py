"""The two formats of a message body, how they are told apart, and the way into and out of each."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from neon_mq_connector.codec.bounds import check_body, check_text
from neon_mq_connector.codec.encoding import check_legacy, write_json
from neon_mq_connector.codec.jsontext import parse_json
from neon_mq_connector.codec.legacy import read_base64, require_dict, write_repr
from neon_mq_connector.errors import DecodeError, EncodeError

CONTENT_TYPE_JSON: Final = "application/json"
"""The AMQP property `content_type` of a body that is a JSON object in UTF-8."""

CONTENT_TYPE_LEGACY: Final = "application/x-neon-mq"
"""The AMQP property `content_type` of a body in the legacy format; old peers send none."""

_BLANKS: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class WireFormat(enum.Enum):
    """How a dict is written in the body of a message.

    Attributes:
        LEGACY: base64 of a JSON string that holds the `repr` of the dict; what old peers read.
        JSON: a JSON object in UTF-8.
    """

    LEGACY = "legacy"
    JSON = "json"

    __hash__ = object.__hash__  # that of Enum is a function in Python

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"wire_format={value!r} is neither 'json' nor 'legacy'")


def decode_body(body: bytes, content_type: str | None = None) -> tuple[dict[str, Any], WireFormat]:
    """Read the body of a message, in whichever format it is.

    Arguments:
        body: the body, as it came.
        content_type: the AMQP property of that name. Default: not known. It settles what is
            reported about a body that cannot be read; what the body is, it shows by itself, and old
            peers copy properties from one message to another.

    Returns:
        The dict, and the format in which its sender will understand an answer. Base64 of a JSON
        object counts as `WireFormat.JSON`.

    Raises:
        DecodeError: the body is no message in a known format, or exceeds a bound, which the error
            names. It will never be readable: park it or reject it without requeuing.
    """
    stripped = body.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANKS)
    if stripped[:1] == b"{":
        return _read_json(stripped), WireFormat.JSON
    if not stripped:
        raise DecodeError("an empty message body")
    try:
        data, legacy = read_base64(body)
    except DecodeError:
        if _is_json_type(content_type):
            # It says it is JSON and is not base64 either: report what is wrong with it as JSON.
            return _read_json(stripped), WireFormat.JSON
        raise
    return data, WireFormat.LEGACY if legacy else WireFormat.JSON


def encode_body(data: Mapping[str, Any], wire_format: WireFormat) -> bytes:
    """Write the body of a message.

    Arguments:
        data: the message; it is not changed.
        wire_format: the format to write. `content_type_of` tells the message property to set.

    Returns:
        The body: compact JSON in UTF-8, or the legacy format.

    Raises:
        EncodeError: a value or key has no representation in the format. The error names where it is
            and what will do: for JSON often the legacy format.
    """
    if type(data) is not dict and not isinstance(data, Mapping):
        raise EncodeError(f"a message must be a mapping, not a {type(data).__name__}")
    if wire_format is WireFormat.JSON:
        return write_json(data)
    check_legacy(data)
    return write_repr(data if type(data) is dict else dict(data), is_literal=True)


def content_type_of(wire_format: WireFormat) -> str:
    """Return the AMQP property `content_type` that goes with a format."""
    return CONTENT_TYPE_JSON if wire_format is WireFormat.JSON else CONTENT_TYPE_LEGACY


def _is_json_type(content_type: str | None) -> bool:
    """Whether a content type is that of JSON, parameters and letter case aside."""
    if not content_type:
        return False
    kind = content_type.partition(";")[0].strip().lower()
    return kind == CONTENT_TYPE_JSON or kind.endswith("+json")


def _read_json(body: bytes) -> dict[str, Any]:
    check_body(body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"not JSON: not UTF-8 at byte {error.start}") from None
    check_text(text)
    return require_dict(parse_json(text))
