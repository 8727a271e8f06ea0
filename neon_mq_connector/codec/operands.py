"""Single values of Python's grammar of literals, in all the ways that it allows."""

from __future__ import annotations

import enum
import re
from typing import Any, Final, NamedTuple

from neon_mq_connector.codec.bounds import ODD_STEPS, beyond
from neon_mq_connector.codec.cursor import Cursor
from neon_mq_connector.codec.strings import PREFIXES, find_end, has_bare_newline, read_contents
from neon_mq_connector.errors import DecodeError

CONSTANTS: Final[dict[str, Any]] = {
    "None": None,
    "True": True,
    "False": False,
    "null": None,
    "true": True,
    "false": False,
}
"""The words that are values: Python's, and JSON's for good measure."""

_FLOATS: Final[dict[str, complex]] = {
    "inf": float("inf"),
    "nan": float("nan"),
    "infj": complex(0.0, float("inf")),
    "nanj": complex(0.0, float("nan")),
}
_PREFIX: Final = re.compile(r"([A-Za-z]{0,2})(?=['\"])")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_NUMBER: Final = re.compile(
    r"""0[xX][0-9a-fA-F_]* | 0[oO][0-9_]* | 0[bB][0-9_]*
    | (?:[0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]*) (?:[eE][-+]?[0-9_]+)? [jJ]?""",
    re.VERBOSE,
)


class Kind(enum.Enum):
    """What a value was written as, as far as the grammar cares."""

    NUMBER = enum.auto()  # without a sign: may get one, or stand on either side of one
    SIGNED = enum.auto()  # may have an imaginary part added
    SET = enum.auto()  # the word `set`, which must be called
    OTHER = enum.auto()
    OPENER = enum.auto()  # no value yet: a bracket is opened
    CLOSER = enum.auto()  # no value at all: a bracket is closed


class Sign(NamedTuple):
    """A sign that waits for the number to its right.

    Attributes:
        char: plus or minus.
        left: the number to its left, or None for a sign that makes a number negative or positive.
    """

    char: str
    left: complex | None


Operand = tuple[Kind, Any]
"""What was read: a value, or a bracket as a character."""


def read_operand(cursor: Cursor, sign: Sign | None) -> Operand:
    """Read one value that has no sign, or a bracket.

    Arguments:
        cursor: the place; it is moved past what is read.
        sign: the sign before it, if any; then the bracket can only be a parenthesis.

    Returns:
        The value; for brackets the character.

    Raises:
        DecodeError: there is neither, or a bound is exceeded.
    """
    text, pos = cursor.text, cursor.pos
    char = cursor.peek()
    if not char:
        raise cursor.failure("the text ends too early")
    if char in "'\"":
        return Kind.OTHER, _read_strings(cursor, "")
    found = _NUMBER.match(text, pos)
    if found:
        cursor.pos = found.end()
        return Kind.NUMBER, _number(cursor, found[0])
    found = _NAME.match(text, pos)
    if found:
        return _read_name(cursor, found[0])
    if char in ("([{" if sign is None else "("):
        cursor.pos += 1
        return Kind.OPENER, char
    if char in ")]}" and sign is None:
        cursor.pos += 1
        return Kind.CLOSER, char
    if text.startswith("...", pos):
        cursor.pos += 3
        return Kind.OTHER, ...
    raise cursor.failure("no value where one must be")


def with_sign(cursor: Cursor, sign: Sign | None, kind: Kind, value: Any) -> Operand:
    """Apply a sign to the value that follows it, as far as the grammar of literals allows.

    Arguments:
        cursor: the place, for errors.
        sign: the sign, if any.
        kind: what the value was written as.
        value: the value.

    Returns:
        The result; without a sign, the value.

    Raises:
        DecodeError: the value is no number, or what is left of the sign cannot be.
    """
    if sign is None:
        return kind, value
    if kind is not Kind.NUMBER:
        raise cursor.failure("a sign that is before no number")
    if sign.left is None:
        return Kind.SIGNED, -value if sign.char == "-" else +value
    if type(value) is not complex:
        raise cursor.failure("a sum that is no complex number")
    return Kind.OTHER, sign.left - value if sign.char == "-" else sign.left + value


def unescape_simple(cursor: Cursor, contents: str, position: int) -> str:
    r"""Read the contents of a string whose escapes are only ``\\ \' \" \n \r \t \x \u``.

    Arguments:
        cursor: the place, for errors.
        contents: what is between the quotes.
        position: where the contents begin.

    Returns:
        The string.

    Raises:
        DecodeError: an escape is malformed.
    """
    # The codec takes bytes as Latin-1; other characters become escapes, which it reads back.
    try:
        return contents.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        pass
    cursor.pos = position
    raise cursor.failure("a malformed escape in the string")


def _read_name(cursor: Cursor, name: str) -> Operand:
    start = cursor.pos
    cursor.pos += len(name)
    if cursor.peek() in ("'", '"') and name.lower() in PREFIXES:
        return Kind.OTHER, _read_strings(cursor, name.lower())
    if name in CONSTANTS:
        return Kind.OTHER, CONSTANTS[name]
    if name in _FLOATS:
        return Kind.NUMBER, _FLOATS[name]
    if name == "set":
        return Kind.SET, None
    cursor.pos = start
    raise cursor.failure("a name that is no literal")


def _number(cursor: Cursor, digits: str) -> complex:
    try:
        if digits[-1] in "jJ":
            return complex(0.0, float(digits[:-1]))
        if digits[:2].lower() in ("0x", "0o", "0b") or digits.replace("_", "").isdigit():
            if len(digits) > cursor.bounds.max_int_digits:
                raise beyond(
                    cursor.bounds, "max_int_digits", f"an integer has {len(digits)} digits"
                )
            return int(digits, 0)
        return float(digits)
    except DecodeError:
        raise
    except ValueError:
        pass
    raise cursor.failure("a malformed number before that", -1)


def _read_strings(cursor: Cursor, prefix: str) -> str | bytes:
    """Read a string literal, and those that follow it with nothing but blanks between them."""
    strings: list[str] = []
    bytestrings: list[bytes] = []
    while True:
        value = _read_string(cursor, prefix)
        if isinstance(value, str):
            strings.append(value)
        else:
            bytestrings.append(value)
        cursor.skip()
        found = _PREFIX.match(cursor.text, cursor.pos)
        if not found or found[1].lower() not in PREFIXES:
            break
        prefix = found[1].lower()
        cursor.pos = found.end()
        cursor.spend(ODD_STEPS)
    if strings and bytestrings:
        raise cursor.failure("bytes and other strings side by side", -1)
    return "".join(strings) if strings else b"".join(bytestrings)


def _read_string(cursor: Cursor, prefix: str) -> str | bytes:
    text, start = cursor.text, cursor.pos
    quote = text[start]
    delimiter = quote * 3 if text.startswith(quote * 3, start) else quote
    start += len(delimiter)
    end = find_end(text, start, delimiter)
    contents = text[start:end]
    if len(delimiter) == 1 and has_bare_newline(contents):
        raise cursor.failure("a string that has no end in its line")
    value = read_contents(cursor, contents, prefix, start)
    cursor.pos = end + len(delimiter)
    return value
