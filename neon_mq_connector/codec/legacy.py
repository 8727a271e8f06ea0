"""The legacy format: base64 of a JSON string that holds the `repr` of a dict."""

from __future__ import annotations

import binascii
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from neon_mq_connector.codec.bounds import (
    DEFAULT_BOUNDS,
    SMALL,
    Bounds,
    check_body,
    check_text,
)
from neon_mq_connector.codec.fast import UNCERTAIN, read_fast
from neon_mq_connector.codec.jsontext import parse_json, scan
from neon_mq_connector.codec.literals import parse_literal
from neon_mq_connector.errors import DecodeError, EncodeError

_BASE64_BLANKS: Final = b" \t\r\n"
_BLANKS: Final = " \t\r\n"
_FIRST: Final = '"{'


def dict_to_b64(data: dict[Any, Any]) -> bytes:
    """Write a dict in the legacy format, byte for byte as peers have always done.

    Arguments:
        data: the dict. Its `repr` is what is sent, so a value whose `repr` is no Python literal
            (a date, an enum) makes a message that nobody can read; `encode_body` refuses such.

    Returns:
        ``base64.b64encode(json.dumps(repr(data)).encode())``: ASCII only.

    Raises:
        EncodeError: the dict has no `repr`: it is nested too deep, or holds an integer that is too
            long. Send less, or that value as a string.
    """
    # what `json.dumps` and `base64.b64encode` come to for a string, without their ceremony; each
    # step lets go of what the one before has made, which may be large
    return binascii.b2a_base64(encode_basestring_ascii(_repr(data)).encode("ascii"), newline=False)


def write_literals(data: dict[Any, Any]) -> bytes:
    """Write a dict as `dict_to_b64` does, of which it is known that its `repr` is made of literals.

    Arguments:
        data: the dict; see `encoding.check_legacy`.

    Returns:
        The same bytes as `dict_to_b64`.

    Raises:
        EncodeError: as there.
    """
    text = _repr(data)
    # literals have no control characters; so in JSON nothing but these is written otherwise
    if "\\" in text or '"' in text or not text.isascii():
        text = encode_basestring_ascii(text)
    else:
        text = f'"{text}"'
    raw = text.encode("ascii")
    del text  # it may be large
    return binascii.b2a_base64(raw, newline=False)


def _repr(data: dict[Any, Any]) -> str:
    try:
        return repr(data)
    except RecursionError:
        raise EncodeError("the message is nested too deep for the legacy format") from None
    except ValueError as error:
        raise EncodeError(f"the message cannot be written in the legacy format: {error}") from error


def b64_to_dict(data: bytes | str, *, bounds: Bounds = DEFAULT_BOUNDS) -> dict[Any, Any]:
    """Read a dict from the legacy format, or from base64 of a JSON object.

    Arguments:
        data: the body of a message; base64 is ASCII, so a string will do.
        bounds: what reading may cost. Default `DEFAULT_BOUNDS`.

    Returns:
        The dict. Nothing in the data is ever executed.

    Raises:
        DecodeError: the data is not a message in one of these formats, or exceeds a bound, which
            the message names. Reading it again will not help; larger `bounds` may.
    """
    if isinstance(data, str):
        try:
            data = data.encode("ascii")
        except UnicodeEncodeError:
            raise DecodeError("not base64: a character that is not ASCII") from None
    return read_base64(data, bounds)[0]


def read_base64(body: bytes, bounds: Bounds) -> tuple[dict[Any, Any], bool]:
    """Read base64 of a JSON string that holds a `repr`, or of a JSON object.

    Arguments:
        body: the body of a message.
        bounds: what reading may cost.

    Returns:
        The dict, and whether it came in the legacy format.

    Raises:
        DecodeError: as `b64_to_dict` does.
    """
    small = len(body) <= SMALL and bounds is DEFAULT_BOUNDS
    if not small:
        check_body(body, bounds)
    try:
        text = _unbase64(body).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"base64 of something that is not UTF-8, at byte {error.start}") from None
    first = text[:1]
    if first not in _FIRST:
        text = text.lstrip(_BLANKS)
        first = text[:1]
    if not first or first not in _FIRST:
        # So a list of a million numbers is refused for what it is before anything is made of it.
        raise DecodeError("base64, but neither of a JSON string (legacy format) nor of an object")
    if first == "{":
        return the_dict(parse_json(text, bounds)), False
    if not small:
        check_text(text, bounds)
    is_plain = "\\" not in text and text.find('"', 1) == len(text) - 1
    value = text[1:-1] if is_plain else scan(text)
    del text
    if not small:
        check_text(value, bounds)
    data = read_fast(value, bounds)
    if data is UNCERTAIN:
        data = parse_literal(value, bounds)
    return the_dict(data), True


def the_dict(value: Any) -> dict[Any, Any]:
    """Return a message that is a dict.

    Raises:
        DecodeError: it is something else, which the message names.
    """
    if type(value) is not dict:
        raise DecodeError(f"a message must be a dict, not a {type(value).__name__}")
    return value


def _unbase64(body: bytes) -> bytes:
    try:
        raw = binascii.a2b_base64(body)
    except binascii.Error as error:
        raise DecodeError(f"neither JSON nor base64: {error}") from None
    # The decoder skips what is not base64, so the sizes tell whether there was any. Line breaks, as
    # in MIME, are all right.
    if len(raw) != len(body) // 4 * 3 - body[-2:].count(b"=") or len(body) % 4:
        body = body.translate(None, _BASE64_BLANKS)
        if len(raw) != len(body) // 4 * 3 - body[-2:].count(b"=") or len(body) % 4:
            raise DecodeError("neither JSON nor base64: characters that do not belong there")
    return raw
