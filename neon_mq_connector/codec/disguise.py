"""Tuples, sets, bytes, any keys and any floats, in the disguise of JSON.

What JSON lacks is written as objects that no message can contain, since their keys are characters
that Unicode assigns to nobody, and a text that has them is not disguised. A hook that sees every
object then turns them into what they stand for (here 0 is for U+FDD0, and so on)::

    (1, 2)          {"0": [1, 2], "1": 0}
    (1,)            {"0": [1, "1"], "1": 0}
    {1: 2, 3: 4}    {"2": [1, "3", 2, 3, "3", 4], "4": 0}
    {1, 2}          {"2": [1, 2], "4": 0}
    b'a'            {"5": "a"}

A bracket that is opened gives the first member of an object, one that is closed the second, so
brackets that do not match make objects with one member or two that do not belong together, or no
JSON at all. Colons that are not in a dict are found by counting. The names of floats become those
that the standard library's scanner knows.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from neon_mq_connector.codec.bounds import (
    ENTRY_COST,
    FREE_ENTRIES,
    Bounds,
    beyond,
    too_much_memory,
)
from neon_mq_connector.codec.jsontext import refuse_constant, scan
from neon_mq_connector.errors import DecodeError

_MASKS: Final = "\ufdd0\ufdd1\ufdd2\ufdd3\ufdd4\ufdd5"
_TUPLE, _TUPLE_END, _BRACES, _COLON, _BRACES_END, _BYTES = _MASKS
_ESCAPED_MASK: Final = re.compile(r"\\u[fF][dD][dD]")

_TUPLE_OPEN_TEXT: Final = '{"\\ufdd0":['
_TUPLE_CLOSE_TEXT: Final = '],"\\ufdd1":0}'
_TUPLE_OF_ONE_TEXT: Final = ',"\\ufdd1")'
_BRACES_OPEN_TEXT: Final = '{"\\ufdd2":['
_COLON_TEXT: Final = ',"\\ufdd3",'
_BRACES_CLOSE_TEXT: Final = '],"\\ufdd4":0}'
_BYTES_OPEN_TEXT: Final = '{"\\ufdd5":'

BYTES_OPEN: Final = "\x03"
BYTES_CLOSE: Final = "\x04"
"""Stand-ins; a text that has them is not disguised."""

_FLOATS: Final = {name: float(name) for name in ("NaN", "Infinity", "-Infinity")}

DISGUISED_ENTRY_COST: Final = 24
"""Bytes that an entry of a dict takes while it is in disguise."""

PAIR_GROWTH: Final = len(_BRACES_OPEN_TEXT + _BRACES_CLOSE_TEXT) - 2
"""Characters that the disguise adds to a pair of brackets."""

COLON_GROWTH: Final = len(_COLON_TEXT) - 1
"""Characters that the disguise adds to a colon."""


def could_be_mistaken(text: str) -> bool:
    """Tell whether a text has a character, or an escape of one, that the disguise uses."""
    if BYTES_OPEN in text or BYTES_CLOSE in text:
        return True
    if "\\u" in text and _ESCAPED_MASK.search(text):
        return True
    return not text.isascii() and any(mask in text for mask in _MASKS)


def disguise_tuples(outside: str) -> str:
    """Disguise the tuples in what is outside of the strings of a text."""
    outside = outside.replace(",)", _TUPLE_OF_ONE_TEXT)
    return outside.replace("(", _TUPLE_OPEN_TEXT).replace(")", _TUPLE_CLOSE_TEXT)


def undisguise_tuples(translation: str) -> str:
    """Turn disguised tuples into lists; for counting, which needs no more."""
    return translation.replace(_TUPLE_OPEN_TEXT, "[").replace(_TUPLE_CLOSE_TEXT, "]")


def disguise_braces(outside: str) -> str:
    """Disguise the dicts and sets in what is outside of the strings of a text."""
    outside = outside.replace(":", _COLON_TEXT)
    return outside.replace("{", _BRACES_OPEN_TEXT).replace("}", _BRACES_CLOSE_TEXT)


def disguise_floats(outside: str) -> str:
    """Disguise infinities and what is no number, in what is outside of the strings of a text."""
    # The scanner's own names are no literals in Python; doubled they are nothing in either.
    outside = outside.replace("NaN", "NaNNaN").replace("Infinity", "InfinityInfinity")
    return outside.replace("nan", "NaN").replace("inf", "Infinity")


def mark_bytes(pieces: list[str]) -> None:
    """Put stand-ins around bytes, in place.

    Arguments:
        pieces: by turns what is outside of the strings of a text, and what is inside.

    Raises:
        DecodeError: there is something in bytes that is not ASCII.
    """
    for index in range(0, len(pieces) - 2, 2):
        if pieces[index][-1:] == "b":
            if not pieces[index + 1].isascii():
                raise DecodeError("a character that is not ASCII in bytes")
            pieces[index] = pieces[index][:-1] + BYTES_OPEN
            pieces[index + 2] = BYTES_CLOSE + pieces[index + 2]


def disguise_marked_bytes(translation: str) -> str:
    """Disguise the bytes that have stand-ins around them."""
    return translation.replace(BYTES_OPEN, _BYTES_OPEN_TEXT).replace(BYTES_CLOSE, "}")


def _tuple_or_dict(members: dict[str, Any]) -> Any:
    if _TUPLE not in members and _TUPLE_END not in members:
        return members
    return _tuple(members)


def _tuple(members: dict[str, Any]) -> Any:
    items = members.get(_TUPLE)
    if len(members) != 2 or _TUPLE_END not in members or type(items) is not list:
        raise DecodeError("parentheses that do not match")
    if len(items) == 1:
        # No tuple, but a value in parentheses.
        return items[0]
    if items and items[-1] == _TUPLE_END:
        items.pop()
    return tuple(items)


DECODE_TUPLES: Final = json.JSONDecoder(object_hook=_tuple_or_dict, parse_constant=refuse_constant)
"""Reads JSON in which tuples are disguised, but no dicts."""


def scan_disguised(translation: str, colons: int, spare: int, bounds: Bounds) -> Any:
    """Read a JSON text in which everything that JSON lacks is disguised.

    Arguments:
        translation: the text.
        colons: how many colons there were outside of strings.
        spare: bytes of memory for the tables of sets, which could not be weighed before.
        bounds: what the text may cost.

    Returns:
        The value.

    Raises:
        DecodeError: the text is not what it should be, or exceeds a bound.
    """
    left = colons

    def unveil(members: dict[str, Any]) -> Any:
        nonlocal left, spare
        items = members.get(_BRACES)
        if type(items) is list and len(members) == 2 and _BRACES_END in members:
            if not items:
                return {}
            if len(items) < 3 or items[1] != _COLON:
                spare -= max(0, len(items) - FREE_ENTRIES) * ENTRY_COST
                if spare < 0:
                    raise too_much_memory("sets", bounds)
                return make_set(items, bounds)
            count, rest = divmod(len(items), 3)
            if rest or items[1::3].count(_COLON) != count:
                raise DecodeError("a dict that is none")
            left -= count
            del items[1::3]
            return make_dict(items, bounds)
        if len(members) == 1 and _BYTES in members:
            return str(members[_BYTES]).encode("latin-1")
        return _tuple(members)

    value = scan(
        translation, json.JSONDecoder(object_hook=unveil, parse_constant=_FLOATS.__getitem__)
    )
    if left:
        raise DecodeError("a colon that has no place")
    return value


def make_dict(items: list[Any], bounds: Bounds) -> dict[Any, Any]:
    """Make a dict of what a sender has chosen.

    Arguments:
        items: by turns the keys and the values.
        bounds: what it may cost.

    Returns:
        The dict; of equal keys the last one counts.

    Raises:
        DecodeError: a key cannot be one, or too many of them have the same hash.
    """
    pairs = iter(items)
    try:
        if len(items) > bounds.max_equal_hashes:
            _check_hashes(items[::2], bounds)
        return dict(zip(pairs, pairs, strict=True))
    except TypeError as error:
        raise DecodeError(f"not a Python literal: a key that cannot be one: {error}") from None


def make_set(items: list[Any], bounds: Bounds) -> set[Any]:
    """Make a set of what a sender has chosen.

    Arguments:
        items: the members.
        bounds: what it may cost.

    Returns:
        The set.

    Raises:
        DecodeError: a member cannot be one, or too many of them have the same hash.
    """
    try:
        if len(items) > bounds.max_equal_hashes:
            _check_hashes(items, bounds)
        return set(items)
    except TypeError as error:
        raise DecodeError(f"not a Python literal: a member that cannot be one: {error}") from None


def _check_hashes(keys: list[Any], bounds: Bounds) -> None:
    hashes = sorted(_hashes_of_choice(keys))
    if any(map(operator.eq, hashes, islice(hashes, bounds.max_equal_hashes, None))):
        raise beyond(bounds, "max_equal_hashes", "too many keys have the same hash")


def _hashes_of_choice(keys: list[Any]) -> Iterable[int]:
    # The hashes of strings and bytes are salted, those of small integers all differ; those of
    # others can be chosen by the sender: k * (2**61 - 1) has the hash 0 for every k.
    for key in keys:
        kind = type(key)
        if kind is not str and kind is not bytes:
            value = hash(key)
            if kind is not int or value != key:
                yield value
