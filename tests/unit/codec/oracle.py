"""What `ast.literal_eval` says of a text, and what makes two values the same for a reader."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from hypothesis import strategies as st

REFUSED = object()

FRAGMENTS = (
    *("'", '"', "\\", "'''", '"""', "\\'", '\\"', "\\\\", "\\n", "\\\n"),
    *("a", "n", "x41", "x0", "u0041", "ud83d", "\\ud83d\\ude00", "U0001f600", "N{BULLET}", "400"),
    *("\n", "\r", "\t", " ", "\x0c", "\x00", "\x01", "\x02", "\x03", "\x04", "#", "/", "\ufdd0"),
    *("(", ")", "[", "]", "{", "}", ",", ":", ", ", ": ", "'k': ", "1: ", "(1, 2): "),
    *("1", "0", "007", "1.5", "-", "+", "j", "2j", "1e5", "1e400", "0x1f", "0b1", "1_0", "_"),
    *("123456789012345678901", "-0.0", "None", "True", "False", "set()", "set", "..."),
    *("b", "r", "u", "Rb", "f", "'a'", '"it\'s"', "'say \"so\"'", "b'x'", "b'\\x00\\u'", "'None'"),
    *("{}", "[]", "()", "(1,)", "(1)", "-(1)", "{1}", "{1, 2}", "{None: 2}", "{(1,): {2}}"),
    *("é", "あ", "😀", "\\x00", "\\x01", "\\ufdd0", "\\uFDD3", "NaN", "Infinity"),
)
"""Pieces of texts that are literals, or nearly."""


def literal_eval(text: str) -> Any:
    """Return what `ast.literal_eval` makes of a text, or `REFUSED`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return REFUSED


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of equal types throughout, in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, other_key) and same(one[key], other[other_key])
            for key, other_key in zip(one, other, strict=True)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, complex) and one == other:
        # `literal_eval` adds the parts, and so loses the sign of a zero.
        return True
    # Tells 0.0 from -0.0, and finds that nan is nan.
    return repr(one) == repr(other)


_texts = st.text(st.characters(), max_size=12) | st.lists(
    st.sampled_from(["'", '"', "\\", "None", "True", "\n", "a", "\ud83d", "\x00", "é", "b", " "]),
    max_size=6,
).map("".join)

_parts = st.floats(allow_nan=False, allow_infinity=False).filter(bool)

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**60), max_value=10**60)
    | st.floats()
    # What `repr` writes for zeros in complex numbers may mean a zero of the other sign.
    | st.builds(complex, _parts, _parts)
    | _texts
    | st.binary(max_size=12)
)

_keys = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)

literals = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(_keys, max_size=4)
        | st.dictionaries(_keys, inner, max_size=4)
    ),
    max_leaves=20,
)
"""Values that a Python literal can express."""

messages = st.dictionaries(_texts, literals, max_size=5) | st.dictionaries(_keys, literals)
"""Dicts of such values."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**60), max_value=10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
"""Values that JSON can express."""

json_messages = st.dictionaries(st.text(max_size=8), json_values, max_size=5)
"""Dicts of such values."""

_pieces = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=10).map("".join)

near_literals = (
    _pieces
    | _pieces.map("{{'k': {}}}".format)
    | _pieces.map("{{{}: 1}}".format)
    | st.tuples(messages.map(repr), _pieces, st.floats(0, 1), st.integers(0, 3)).map(
        lambda edit: _edited(*edit)
    )
)
"""Texts that are Python literals or nearly."""


def _edited(text: str, piece: str, where: float, cut: int) -> str:
    at = int(len(text) * where)
    return text[:at] + piece + text[at + cut :]
