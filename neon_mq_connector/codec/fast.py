"""The fast path: most texts that `repr` writes are one translation away from JSON.

`read_fast` swaps the quotes and the three constants, and the standard library's scanner, which is
written in C, does the rest. The translation is *certain*, in this sense: whatever it makes, the
scanner refuses it or reads from it what Python would have read from the original. The argument:

- The scanner meets the text from left to right, as Python would. As long as both have agreed, both
  are outside of a string or both are in the same one. Outside, whatever Python reads otherwise than
  JSON does (a prefix as in ``b'x'``, a set, a comment, ``1_000``, ``'a' 'b'``, three quotes, a key
  that is no string) is an error in JSON. Inside, no character is left that JSON reads otherwise:
  escapes of which this is not so are refused here.
- Python reads two escaped surrogates as two characters, JSON as one: any escaped surrogate is
  refused here. A backslash and a slash are two characters in Python, one in JSON: refused here.
- ``true``, ``false`` and ``null`` are no literals in Python. They are read all the same, by this
  path and by the reader of literals alike, so both give the same result.
- Tuples go in disguise, and where plain JSON will not do, dicts, sets and bytes too; `disguise` has
  the argument for that.

What is refused here or by the scanner, the reader in `literals` decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from neon_mq_connector.codec.bounds import (
    ITEM_COST,
    PIECES_AT_ONCE,
    SMALL,
    TEXT_COPIES,
    BoundExceededError,
    Bounds,
)
from neon_mq_connector.codec.disguise import (
    COLON_GROWTH,
    DECODE_TUPLES,
    DISGUISED_ENTRY_COST,
    PAIR_GROWTH,
    could_be_mistaken,
    disguise_braces,
    disguise_floats,
    disguise_marked_bytes,
    disguise_tuples,
    mark_bytes,
    scan_disguised,
    undisguise_tuples,
)
from neon_mq_connector.codec.jsontext import (
    STRICT,
    Weight,
    check_depth,
    has_long_number,
    scan,
    surely_light,
    weigh,
)
from neon_mq_connector.errors import DecodeError

# Characters that stand for others while quotes are being swapped. `repr` never writes them as they
# are, and a text that has them is refused.
_APOSTROPHE: Final = "\x00"
_QUOTE: Final = "\x01"
_BACKSLASH: Final = "\x02"

_CONSTANTS: Final = (("None", "null"), ("True", "true"), ("False", "false"))

_MANY_PIECES: Final = 500_000
_FEW_WORDS: Final = 10

UNCERTAIN: Final = object()
"""What `read_fast` returns for a text that it cannot read with certainty."""


def read_fast(text: str, bounds: Bounds) -> Any:
    """Read the `repr` of a dict, where that can be done fast and with certainty.

    Arguments:
        text: the text of a Python literal, or anything else.
        bounds: what reading it may cost.

    Returns:
        The value that `ast.literal_eval` returns, or `UNCERTAIN`.

    Raises:
        DecodeError: the values would exceed a bound, which is known before they are made.
    """
    if len(text) > SMALL and not _affordable(text, PAIR_GROWTH * text.count("("), bounds):
        return UNCERTAIN
    plain = to_single_quotes(text)
    if not plain:
        return UNCERTAIN
    swapped, tuples = _swap(plain)
    translation = _finish(swapped)
    if tuples and could_be_mistaken(plain):
        return UNCERTAIN
    weight = None
    if not surely_light(translation, bounds):
        weight = _weigh(text, undisguise_tuples(translation) if tuples else translation, bounds)
        if weight is None:
            return UNCERTAIN
    try:
        return scan(translation, DECODE_TUPLES if tuples else STRICT)
    except DecodeError:
        # Not an error yet: the text has something that JSON has not.
        pass
    del swapped, translation
    # A comma before a bracket is allowed in Python alone, disguise or not.
    if could_be_mistaken(plain) or ",]" in plain or ",}" in plain:
        return UNCERTAIN
    spare = bounds.max_memory
    if weight is not None:
        growth = _growth(text)
        spare = weight.spare - growth - weight.entries * DISGUISED_ENTRY_COST
        if spare < 0 or not _affordable(text, growth, bounds):
            return UNCERTAIN
    try:
        return _read_disguised(plain, "\\u" in text, spare, bounds)
    except BoundExceededError:
        # Up to there all was well, so the reader of literals would only find out the same, slowly.
        raise
    except DecodeError:
        return UNCERTAIN


def _weigh(text: str, translation: str, bounds: Bounds) -> Weight | None:
    """Weigh a text by its translation; return None when that does not show all."""
    try:
        # A tuple is a list first.
        weight = weigh(translation, bounds, references=2 if "(" in text else 1)
    except BoundExceededError:
        # The count is right unless there are strings or comments that JSON cannot see.
        if "#" in text or "'''" in text or '"""' in text:
            return None
        raise
    try:
        if weight.outside is not None:
            check_depth(weight.outside, bounds)
    except DecodeError:
        return None
    return None if has_long_number(translation, bounds.max_int_digits) else weight


def to_single_quotes(text: str) -> str:
    """Make every string of a text single-quoted, with escapes as in JSON.

    Arguments:
        text: the text of a Python literal, or anything else.

    Returns:
        The text, with stand-ins for the quotes and backslashes inside of strings, so that every
        apostrophe delimits a string. Empty where that is not possible.
    """
    if _APOSTROPHE in text or _QUOTE in text or _BACKSLASH in text:
        return ""
    if "\\" in text:
        text = _translate_escapes(text)
    return _without_double_quotes(text) if '"' in text else text


def _finish(text: str) -> str:
    """Put what they stand for in the place of stand-ins, as JSON writes it."""
    if _BACKSLASH in text:
        text = text.replace(_BACKSLASH, "\\\\")
    return text.replace(_APOSTROPHE, "'").replace(_QUOTE, '\\"')


def _affordable(text: str, growth: int, bounds: Bounds) -> bool:
    """Tell whether there is memory for splitting a text at double quotes, and for translations."""
    size = sys.getsizeof(text) + growth
    return text.count('"') * ITEM_COST + TEXT_COPIES * size <= bounds.max_memory


def _growth(text: str) -> int:
    """Tell by how many characters a text grows in disguise, at most."""
    pairs = text.count("(") + text.count("{")
    return PAIR_GROWTH * pairs + COLON_GROWTH * text.count(":")


def _translate_escapes(text: str) -> str:
    """Make escapes JSON's, with stand-ins for quotes and backslashes; empty if not possible."""
    # Each pair is one character of a string; then what backslash is left begins an escape.
    text = text.replace("\\\\", _BACKSLASH)
    if "\\/" in text or "\\ud" in text or "\\uD" in text:
        return ""
    return text.replace("\\'", _APOSTROPHE).replace('\\"', _QUOTE).replace("\\x", "\\u00")


def _without_double_quotes(text: str) -> str:
    """Make every string single-quoted, with stand-ins for quotes in it; empty if not possible."""
    pieces = text.split('"')
    if len(pieces) > _MANY_PIECES:
        return ""
    done = [pieces[0]]
    in_string = pieces[0].count("'") % 2
    index = 1
    while index < len(pieces):
        piece = pieces[index]
        if in_string:
            done += (_QUOTE, piece)
            in_string ^= piece.count("'") % 2
            index += 1
        elif index + 1 < len(pieces):
            rest = pieces[index + 1]
            done += ("'", piece.replace("'", _APOSTROPHE), "'", rest)
            in_string = rest.count("'") % 2
            index += 2
        else:
            return ""
    return "".join(done)


def _swap(text: str) -> tuple[str, int]:
    """Swap quotes, constants and tuples in a text where every apostrophe delimits a string."""
    if "(" in text:
        return _swap_piecewise(text)
    swapped = text
    for word, constant in _CONSTANTS:
        if word in swapped:
            pieces = swapped.split(word)
            if len(pieces) > _FEW_WORDS:
                return _swap_piecewise(text)
            apostrophes = 0
            for piece in pieces[:-1]:
                apostrophes += piece.count("'")
                if apostrophes % 2:
                    swapped = _join_outside(pieces, word, constant)
                    break
            else:
                swapped = constant.join(pieces)
    return swapped.replace("'", '"'), 0


def _join_outside(pieces: list[str], word: str, constant: str) -> str:
    """Put a constant between pieces, but the word that was there where that is inside a string."""
    in_string = False
    done = [pieces[0]]
    for before, after in pairwise(pieces):
        in_string ^= before.count("'") % 2 == 1
        done += (word if in_string else constant, after)
    return "".join(done)


def _swap_piecewise(text: str) -> tuple[str, int]:
    tuples = 0

    def translate(outside: str) -> str:
        nonlocal tuples
        outside = _swap_constants(outside)
        tuples += outside.count("(")
        return disguise_tuples(outside)

    return _translate_outside(text, translate), tuples


def _swap_constants(outside: str) -> str:
    for word, constant in _CONSTANTS:
        outside = outside.replace(word, constant)
    return outside


def _read_disguised(plain: str, has_u: bool, spare: int, bounds: Bounds) -> Any:
    colons = 0

    def translate(outside: str) -> str:
        nonlocal colons
        colons += outside.count(":")
        return disguise_floats(disguise_tuples(disguise_braces(_swap_constants(outside))))

    # In bytes a backslash and a u are just these two characters.
    has_bytes = "b'" in plain
    if has_bytes and has_u:
        return UNCERTAIN
    translation = _finish(_translate_outside(plain, translate, has_bytes))
    if has_bytes:
        translation = disguise_marked_bytes(translation)
    return scan_disguised(translation, colons, spare, bounds)


def _translate_outside(plain: str, translate: Callable[[str], str], has_bytes: bool = False) -> str:
    """Translate what is outside of strings, and make the strings double-quoted.

    Arguments:
        plain: a text in which every apostrophe delimits a string.
        translate: does that for a piece that has apostrophes in it, which must stay.
        has_bytes: whether to put stand-ins around bytes. Default no.

    Returns:
        The text.
    """
    done = []
    rest: str | None = plain
    while rest is not None:
        # Not all at once: a large text has millions of pieces. The number being even, what is left
        # begins outside of a string.
        pieces = rest.split("'", PIECES_AT_ONCE)
        if has_bytes:
            mark_bytes(pieces)
        rest = pieces.pop() if len(pieces) > PIECES_AT_ONCE else None
        pieces[::2] = translate("'".join(pieces[::2])).split("'")
        done.append('"'.join(pieces))
    return '"'.join(done)
