"""The legacy format: base64 of a JSON string that holds the `repr` of a dict.

Most texts that `repr` writes are one translation away from JSON, which the standard library reads
at the speed of C. The translation is *certain*: either the JSON scanner refuses what it makes, or
reads from it what Python would have read from the original.

- The scanner meets the text from left to right, as Python would. As long as both have agreed, both
  are outside of a string or both are in the same one. Outside, whatever Python reads otherwise than
  JSON does (a prefix as in ``b'x'``, a tuple, a set, a comment, ``1_000``, ``'a' 'b'``, three
  quotes, a key that is no string) is an error in JSON. Inside, no character is left that JSON reads
  otherwise: escapes of which this is not so are not translated.
- Python reads two escaped surrogates as two characters, JSON as one; a backslash and a slash are
  two characters in Python, one in JSON. A text that has either is not translated.
- ``true``, ``false`` and ``null`` are no literals in Python. The reader of literals takes them all
  the same, so both give the same result.

What is not translated, or refused by the scanner, is for the reader in `literals`.
"""

from __future__ import annotations

import binascii
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from neon_mq_connector.codec.bounds import BoundExceededError, check_body, check_text
from neon_mq_connector.codec.jsontext import parse_json, scan, split_at
from neon_mq_connector.codec.literals import parse_literal
from neon_mq_connector.errors import DecodeError, EncodeError

_BASE64_BLANKS: Final = b" \t\r\n"
_BLANKS: Final = " \t\r\n"

# Characters that stand for others while quotes are being swapped. `repr` never writes them as they
# are, and a text that has them is not translated.
_APOSTROPHE: Final = "\x00"
_QUOTE: Final = "\x01"
_BACKSLASH: Final = "\x02"

_MOST_QUOTES: Final = 500_000
_CONSTANTS: Final = (("None", "null"), ("True", "true"), ("False", "false"))


def dict_to_b64(data: dict[Any, Any]) -> bytes:
    """Write a dict in the legacy format, byte for byte as peers have always done.

    Arguments:
        data: the dict. Its `repr` is what is sent, so a value whose `repr` is no Python literal
            (a date, an enum) makes a message that no peer can read; `encode_body` refuses such.

    Returns:
        ``base64.b64encode(json.dumps(repr(data)).encode())``: ASCII only.

    Raises:
        EncodeError: the dict has no `repr`: it is nested too deep, or holds an integer that is too
            long. Send less, or that value as a string.
    """
    return write_repr(data, is_literal=False)


def write_repr(data: dict[Any, Any], *, is_literal: bool) -> bytes:
    """Write a dict as `dict_to_b64` does, twice as fast where its `repr` is made of literals."""
    try:
        text = repr(data)
    except RecursionError:
        raise EncodeError("the message is nested too deep for the legacy format") from None
    except ValueError as error:
        raise EncodeError(f"the message cannot be written in the legacy format: {error}") from error
    # literals have no control characters, so most of them are the same in JSON
    if is_literal and "\\" not in text and '"' not in text and text.isascii():
        text = f'"{text}"'
    else:
        text = encode_basestring_ascii(text)
    raw = text.encode("ascii")
    del text
    return binascii.b2a_base64(raw, newline=False)


def b64_to_dict(data: bytes | str) -> dict[Any, Any]:
    """Read a dict from the legacy format, or from base64 of a JSON object.

    Arguments:
        data: the body of a message; base64 is ASCII, so a string will do.

    Returns:
        The dict. Nothing in the data is ever executed.

    Raises:
        DecodeError: the data is not a message in one of these formats, or exceeds a bound, which
            the message names. Reading it again will not help.
    """
    if isinstance(data, str):
        try:
            data = data.encode("ascii")
        except UnicodeEncodeError:
            raise DecodeError("not base64: a character that is not ASCII") from None
    return read_base64(data)[0]


def read_base64(body: bytes) -> tuple[dict[Any, Any], bool]:
    """Read a dict as `b64_to_dict` does; return it, and whether it came in the legacy format."""
    check_body(body)
    try:
        text = _unbase64(body).decode().lstrip(_BLANKS)
    except UnicodeDecodeError as error:
        raise DecodeError(f"base64 of something that is not UTF-8, at byte {error.start}") from None
    if not text.startswith(('"', "{")):
        # So a list of a million numbers is refused for what it is before anything is made of it.
        raise DecodeError("base64, but neither of a JSON string (legacy format) nor of an object")
    check_text(text)
    if text[0] == "{":
        return require_dict(parse_json(text)), False
    is_plain = "\\" not in text and text.find('"', 1) == len(text) - 1
    value = text[1:-1] if is_plain else scan(text)
    del text
    check_text(value)
    return require_dict(_read_repr(value)), True


def require_dict(value: Any) -> dict[Any, Any]:
    """Return a message that is a dict; raise `DecodeError` for anything else."""
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


def _read_repr(text: str) -> Any:
    translation = _to_json(text)
    if translation is not None:
        try:
            return parse_json(translation)
        except BoundExceededError:
            raise
        except DecodeError:
            # Not an error yet: the text has something that JSON has not.
            del translation
    return parse_literal(text)


def _to_json(text: str) -> str | None:
    """Translate the `repr` of a dict to JSON, or return None where that cannot be done."""
    if _APOSTROPHE in text or _QUOTE in text or _BACKSLASH in text:
        return None
    if "\\" in text:
        # Each pair is one character of a string; then what backslash is left begins an escape.
        text = text.replace("\\\\", _BACKSLASH)
        if "\\/" in text or "\\ud" in text or "\\uD" in text:
            return None
        text = text.replace("\\'", _APOSTROPHE).replace('\\"', _QUOTE).replace("\\x", "\\u00")
    if '"' in text:
        single_quoted = _to_single_quotes(text)
        if single_quoted is None:
            return None
        text = single_quoted
    text = _swap(text)
    if _BACKSLASH in text:
        text = text.replace(_BACKSLASH, "\\\\")
    return text.replace(_APOSTROPHE, "'").replace(_QUOTE, '\\"')


def _to_single_quotes(text: str) -> str | None:
    """Make every string of a text single-quoted, with stand-ins for the quotes in it."""
    if text.count('"') > _MOST_QUOTES:
        return None
    done: list[str] = []
    in_string = False
    pieces = iter(text.split('"'))
    for piece in pieces:
        done.append(piece)
        in_string ^= piece.count("'") % 2 == 1
        if in_string:
            done.append(_QUOTE)
            continue
        contents = next(pieces, None)
        if contents is None:
            return "".join(done)
        done += ("'", contents.replace("'", _APOSTROPHE), "'")
    return None


def _swap(text: str) -> str:
    """Swap quotes and constants in a text in which every apostrophe delimits a string."""
    if "None" not in text and "True" not in text and "False" not in text:
        return text.replace("'", '"')
    done = []
    for pieces in split_at(text, "'"):
        outside = "'".join(pieces[::2])
        for word, constant in _CONSTANTS:
            outside = outside.replace(word, constant)
        pieces[::2] = outside.split("'")
        done.append('"'.join(pieces))
    return '"'.join(done)
