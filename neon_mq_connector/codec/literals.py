"""A reader of Python literals for bytes from the network.

It gives the values that `ast.literal_eval` gives, but executes nothing, builds no syntax tree, does
not recurse, takes time proportional to the text, and keeps to the bounds. It reads all that `repr`
writes, `inf` and `nan` included, and `true`, `false` and `null`. It does not read what `repr` never
writes: comments, triple quotes, strings side by side, parentheses around a part of a number.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from neon_mq_connector.codec.bounds import (
    BRACES_COST,
    ENTRY_COST,
    FREE_ENTRIES,
    ITEM_COST,
    LIST_COST,
    MAX_DEPTH,
    MAX_EQUAL_HASHES,
    MAX_INT_DIGITS,
    REFERENCE_COST,
    BoundExceededError,
    bound_exceeded,
    check_text,
    memory_left,
    too_much_memory,
)
from neon_mq_connector.errors import DecodeError

_CONSTANTS: Final[dict[str, Any]] = {
    "None": None,
    "True": True,
    "False": False,
    "...": ...,
    "null": None,
    "true": True,
    "false": False,
}
_PREFIXES: Final = frozenset({"r", "u", "b", "br", "rb"})
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_BRACKET_COST: Final = {"(": LIST_COST, "[": LIST_COST, "{": BRACES_COST}

_REAL: Final = r"""(?: 0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+ | inf | nan
    | (?:[0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]*) (?:[eE][-+]?[0-9][0-9_]*)? )"""

# One value or opening bracket and what follows it, either of which may be missing. It is matched
# against a text without escapes, so a string ends at the next quote. Whatever follows a match is
# optional, so none is undone once it is found.
_ITEM: Final = re.compile(
    rf"""[ \t\n\f]*
    (?: ([bBrRuU]{{0,2}}) ('[^'\n]*' | "[^"\n]*")
      | ([-+]?\ *{_REAL} (?:[jJ] | \ *[-+]\ *{_REAL}[jJ])?)
      | (None | True | False | set\(\) | \.\.\. | null | true | false)
      | ([\[({{])
    )?
    [ \t\n\f]* ([,:\])}}])?""",
    re.VERBOSE,
)

# Python keeps the backslash of an escape that it does not know, with a warning.
_UNKNOWN_IN_STR: Final = re.compile(r"\\(?![\n'\"abfnrtvxuUN0-7])")
_UNKNOWN_IN_BYTES: Final = re.compile(r"\\(?![\n'\"abfnrtvx0-7])")
_BEYOND_LATIN_1: Final = re.compile(r"\\[4-7][0-7][0-7]")


def parse_literal(text: str) -> Any:
    """Read one Python literal.

    Arguments:
        text: the whole text; blanks around the literal are skipped.

    Returns:
        The value that `ast.literal_eval` returns.

    Raises:
        DecodeError: the text is not a literal, or exceeds a bound, which the message names.
    """
    check_text(text)
    if "\r" in text:
        # As Python does with all of a source.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    left = memory_left(text)
    # the bracket being read, empty for the text as a whole, its values so far (of a dict the keys
    # and values by turns), and whether it has turned out to be a dict; the same of those around it
    opener, is_dict = "", False
    items: list[Any] = []
    around: list[tuple[str, list[Any], bool]] = []
    complete = False  # a value was read, and not yet what separates it from the next
    for found in _ITEM.finditer(_without_escapes(text)):
        prefix, quoted, number, word, opened, after = found.groups()
        if opened is not None:
            if complete:
                raise _misplaced(found)
            if len(around) >= MAX_DEPTH:
                raise bound_exceeded(MAX_DEPTH, "the message is nested too deep")
            around.append((opener, items, is_dict))
            opener, items, is_dict = opened, [], False
            left -= REFERENCE_COST + _BRACKET_COST[opened]
            if after is None:
                continue
        elif quoted is not None or number is not None or word is not None:
            if complete:
                raise _misplaced(found)
            left -= ITEM_COST
            if quoted is not None:
                start, end = found.span(2)
                items.append(_string(prefix, text[start + 1 : end - 1], end))
            elif number is not None:
                items.append(_number(number, found.end()))
            else:
                items.append(set() if word == "set()" else _CONSTANTS[word])
            complete = True
        if left < 0:
            raise too_much_memory("the values")
        if after is None:
            break
        if after in ",:":
            expected = ":" if is_dict and len(items) % 2 else ","
            if not complete or not opener:
                raise _misplaced(found)
            if after != expected:
                if after == "," or opener != "{" or len(items) > 1:
                    raise _misplaced(found)
                is_dict = True
            complete = False
        else:
            if _CLOSERS.get(opener) != after or (is_dict and len(items) % 2):
                raise _misplaced(found)
            if opener == "{":
                entries = len(items) // 2 if is_dict else len(items)
                left -= max(0, entries - FREE_ENTRIES) * ENTRY_COST
                if left < 0:
                    raise too_much_memory("the values")
            value = _closed(opener, items, is_dict, complete)
            opener, items, is_dict = around.pop()
            items.append(value)
            complete = True
    if found.end() < len(text):
        raise _misplaced(found)
    if around or not complete:
        raise _failure("the text ends too early", len(text))
    return items[0]


def _without_escapes(text: str) -> str:
    """Put stand-ins for pairs of backslashes, escaped quotes and newlines, at equal positions."""
    if "\\" not in text:
        return text
    # Outside of strings the stand-ins are as wrong as what they stand for.
    for escape in ("\\\\", "\\'", '\\"', "\\\n"):
        text = text.replace(escape, "\0\0")
    return text


def _string(prefix: str, contents: str, end: int) -> str | bytes:
    prefix = prefix.lower()
    if prefix and prefix not in _PREFIXES:
        raise _failure("a string with an unknown prefix", end)
    is_bytes = "b" in prefix
    if is_bytes and not contents.isascii():
        raise _failure("a character that is not ASCII in bytes", end)
    if "\\" in contents and "r" not in prefix:
        contents = _unescaped(contents, is_bytes, end)
    return contents.encode("latin-1") if is_bytes else contents


def _unescaped(contents: str, is_bytes: bool, end: int) -> str:
    # Afterwards no backslash is left but those that begin an escape.
    contents = contents.replace("\\\\", "\\x5c")
    unknown = _UNKNOWN_IN_BYTES if is_bytes else _UNKNOWN_IN_STR
    contents = unknown.sub(r"\\x5c", contents)
    if not _BEYOND_LATIN_1.search(contents):
        # The codec takes bytes as Latin-1; other characters become escapes, which it reads back.
        try:
            return contents.encode("latin-1", "backslashreplace").decode("unicode_escape")
        except UnicodeDecodeError:
            pass  # raised below, so that the error does not hang on with all of the text
    raise _failure("a malformed escape in the string", end)


def _number(token: str, end: int) -> complex:
    if token.isdigit() and len(token) <= 18 and token[0] != "0":
        return int(token)
    plain = token.replace(" ", "")
    digits = plain.lstrip("+-").replace("_", "")
    try:
        if digits[-1] in "jJ":
            return complex(plain)
        if digits.isdigit() or digits[:2] in ("0x", "0X", "0o", "0O", "0b", "0B"):
            if len(digits) > MAX_INT_DIGITS:
                raise bound_exceeded(MAX_INT_DIGITS, f"an integer has {len(digits)} digits")
            return int(plain, 0)
        return float(plain)
    except BoundExceededError:
        raise
    except ValueError:
        pass
    raise _failure("a malformed number", end)


def _closed(opener: str, items: list[Any], is_dict: bool, complete: bool) -> Any:
    """Return the value that a bracket has turned out to be when it is closed."""
    if opener == "[":
        return items
    if opener == "(":
        return items[0] if complete and len(items) == 1 else tuple(items)
    if not items:
        return {}
    keys = items[::2] if is_dict else items
    try:
        _check_hashes(keys)
        return dict(zip(keys, items[1::2], strict=True)) if is_dict else set(keys)
    except TypeError as error:
        raise DecodeError(f"not a Python literal: a key that cannot be one: {error}") from None


def _check_hashes(keys: list[Any]) -> None:
    """Refuse keys of which too many have the same hash: each is compared with all before it."""
    if len(keys) <= MAX_EQUAL_HASHES:
        return
    hashes = sorted(_chosen_hashes(keys))
    if any(map(operator.eq, hashes, islice(hashes, MAX_EQUAL_HASHES, None))):
        raise bound_exceeded(MAX_EQUAL_HASHES, "too many keys have the same hash")


def _chosen_hashes(keys: list[Any]) -> Iterator[int]:
    # The hashes of strings and bytes are salted, those of small integers all differ; those of
    # others can be chosen by the sender: k * (2**61 - 1) has the hash 0 for every k.
    for key in keys:
        kind = type(key)
        if kind is not str and kind is not bytes:
            value = hash(key)
            if kind is not int or value != key:
                yield value


def _misplaced(found: re.Match[str]) -> DecodeError:
    return _failure("something where it has no place", found.end())


def _failure(what: str, end: int) -> DecodeError:
    return DecodeError(f"not a Python literal: {what}, at character {end}")
