"""JSON texts: read within bounds, written strictly.

The standard library's scanner is fast but takes whatever it gets: it recurses as deep as the text
does, and it makes objects for as long as there are brackets. So a text is weighed before it is
scanned; only a large or deep one is looked at closely.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from neon_mq_connector.codec.bounds import (
    BRACES_COST,
    ENTRY_COST,
    FREE_ENTRIES,
    ITEM_COST,
    LIST_COST,
    MAX_DEPTH,
    MAX_INT_DIGITS,
    NUMBER_COST,
    PIECES_AT_ONCE,
    REFERENCE_COST,
    STRING_COST,
    bound_exceeded,
    memory_left,
    too_much_memory,
)
from neon_mq_connector.errors import DecodeError

_NOT_BLANK: Final = re.compile(r"[^ \t\n\r]")
# Of constants and small integers Python has one each.
_LARGE_NUMBER: Final = re.compile(r"[-+.0-9eE]{3,}|-[6-9]")
# Whether brackets are of the same kind is for the scanner to tell.
_ONLY_BRACKETS: Final = {code: {"{": "[", "}": "]"}.get(chr(code)) for code in range(128)}
_ONLY_BRACKETS.update({ord(bracket): bracket for bracket in "[]"})


def _refuse_constant(name: str) -> NoReturn:
    # RFC 8259 has no NaN and Infinity, and readers in other languages refuse them, so a message
    # that has them could not be answered in its own format.
    raise ValueError(f"{name} is not JSON")


def _short_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_INT_DIGITS:
        raise bound_exceeded(MAX_INT_DIGITS, f"an integer has {len(digits)} digits")
    return int(digits)


_STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_COUNTING_DIGITS: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_short_int)


def parse_json(text: str) -> Any:
    """Read one JSON value.

    Arguments:
        text: the whole text, within `MAX_TEXT`; blanks around the value are skipped.

    Returns:
        What `json.loads` returns.

    Raises:
        DecodeError: the text is not JSON by RFC 8259, or exceeds a bound, which the message names.
    """
    if len(text) <= MAX_INT_DIGITS and text.count("[") + text.count("{") <= MAX_DEPTH:
        return scan(text)  # too short to exceed a bound
    outside = _check_memory(text)
    if outside is not None:
        _check_depth(outside)
    return scan(text, _COUNTING_DIGITS if _has_long_number(text) else _STRICT)


def scan(text: str, decoder: json.JSONDecoder = _STRICT) -> Any:
    """Read one JSON value from a text that is known to keep to all bounds.

    Raises:
        DecodeError: the decoder refuses the text, or something follows the value.
    """
    found = _NOT_BLANK.search(text)
    start = found.start() if found else len(text)
    # The errors of the standard library hold the whole text; hence `from None` throughout: what is
    # logged or kept must not hold 16 MiB of a message.
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise DecodeError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DecodeError("no stack left to read JSON: decode it in a shallower call") from None
    except DecodeError:
        raise
    except ValueError as error:
        raise DecodeError(f"not JSON that can be read: {error}") from None
    if end != len(text):
        found = _NOT_BLANK.search(text, end)
        if found:
            raise DecodeError(f"not JSON: more text after the value at character {found.start()}")
    return value


def _check_memory(text: str) -> str | None:
    """Refuse a JSON text whose values would take more than `MAX_MEMORY`.

    Returns:
        What is outside of the strings; None when the text cannot be nested too deep.
    """
    left = memory_left(text)
    commas, colons = text.count(","), text.count(":")
    lists, dicts = text.count("["), text.count("{")
    most = (commas + colons + lists + 1) * ITEM_COST
    most += colons * ENTRY_COST + dicts * (REFERENCE_COST + BRACES_COST)
    if lists + dicts <= MAX_DEPTH and most <= left:
        return None
    strings, outside = _outside_strings(text)
    commas, colons = outside.count(","), outside.count(":")
    lists, dicts = outside.count("["), outside.count("{")
    empty = outside.count("[]") + outside.count("{}")
    items = commas + colons + lists + dicts - empty + 1
    left -= lists * LIST_COST + dicts * BRACES_COST
    left -= max(0, colons - FREE_ENTRIES * dicts) * ENTRY_COST
    left -= items * REFERENCE_COST + strings * STRING_COST
    if left >= 0:
        left -= sum(1 for _ in _LARGE_NUMBER.finditer(outside)) * NUMBER_COST
    if left < 0:
        raise too_much_memory(f"{items} values and keys")
    return outside


def _outside_strings(text: str) -> tuple[int, str]:
    """Count the strings of a text that take memory, and cut all out, so that structure is left."""
    # Of each string with no more than one character Python has one for all, if that is Latin-1.
    free = 1 if sys.getsizeof(text) < 2 * len(text) else 0
    if "\\" in text:
        text = text.replace("\\\\", "x").replace('\\"', "x")
    strings = 0
    done = []
    for pieces in split_at(text, '"'):
        strings += sum(map(free.__lt__, map(len, pieces[1::2])))
        done.append("".join(pieces[::2]))
    return strings, "".join(done)


def split_at(text: str, quote: str) -> Iterator[list[str]]:
    """Split a text at its quotes, some at a time: a large text has millions.

    Each list has an even number of pieces, so the next begins outside of a string again.
    """
    rest: str | None = text
    while rest is not None:
        pieces = rest.split(quote, PIECES_AT_ONCE)
        rest = pieces.pop() if len(pieces) > PIECES_AT_ONCE else None
        yield pieces


def _check_depth(outside: str) -> None:
    """Refuse a text that is nested too deep for the scanner, by what is outside of its strings."""
    if not outside.isascii():
        raise DecodeError("not JSON: a character outside of a string that is not ASCII")
    brackets = outside.translate(_ONLY_BRACKETS)
    # Each round takes away the innermost pairs everywhere at once, at the speed of `str.replace`.
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        inner = brackets.replace("[]", "")
        if len(inner) == len(brackets):
            raise DecodeError("not JSON: its brackets do not match")
        brackets = inner
    if brackets:
        raise bound_exceeded(MAX_DEPTH, "the message is nested too deep")


def _has_long_number(text: str) -> bool:
    """Whether a text has a run of more than `MAX_INT_DIGITS` digits, in a number or elsewhere.

    CPython refuses such integers by itself, but not in all versions, and the limit can be switched
    off; their cost grows with the square of their length.
    """
    # Such a run covers a multiple of the limit and one: look only there.
    step = MAX_INT_DIGITS + 1
    for middle in range(MAX_INT_DIGITS, len(text), step):
        if text[middle].isdigit():
            before = text[max(0, middle - MAX_INT_DIGITS) : middle]
            after = text[middle : middle + step]
            run = len(before) - len(before.rstrip("0123456789"))
            run += len(after) - len(after.lstrip("0123456789"))
            if run > MAX_INT_DIGITS:
                return True
    return False
