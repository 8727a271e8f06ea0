"""Whether a message can be put on the wire, and if not, which value of it cannot.

Both formats would take some values silently and deliver something else, or what no peer can read:
JSON turns the key 1 into "1", and the `repr` of a date is no Python literal. So a message is walked
through before it is written. The walk does not recurse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from neon_mq_connector.codec.bounds import MAX_DEPTH
from neon_mq_connector.errors import EncodeError

_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)

#: Types whose values need no closer look.
_JSON_SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
_SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None), float, bytes, complex})
_TEXT: Final[frozenset[type]] = frozenset({str})
_CONTAINERS: Final = (dict, list, tuple, set)
#: Those of sets are missing: that of a subclass has its name.
_REPRS: Final = frozenset(kind.__repr__ for kind in (*_SCALARS, dict, list, tuple))

_Keys = tuple[Any, ...]

_USE_LEGACY: Final = "use the legacy format, or send something that JSON has"


def write_json(data: Mapping[str, Any]) -> bytes:
    """Write a message as compact JSON in UTF-8.

    Arguments:
        data: the message. Tuples become lists, as in `json.dumps`; nothing else changes.

    Returns:
        The body.

    Raises:
        EncodeError: a value or key is not one of JSON's; the message names where it is. The legacy
            format takes bytes, sets, numbers as keys and the like.
    """
    _check(data, _JSON_SCALARS, _TEXT, _not_json, _not_json_key)
    try:
        return _ENCODER.encode(data if isinstance(data, dict) else dict(data)).encode()
    except UnicodeEncodeError:
        _check(data, frozenset(), frozenset(), _not_unicode, _not_unicode)
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"the message cannot be written as JSON: {error}") from error


def check_legacy(data: Mapping[Any, Any]) -> None:
    """Refuse a message whose `repr` would not be a Python literal.

    Raises:
        EncodeError: it would not; the message names the key and what will do.
    """
    _check(data, _SCALARS, _TEXT, _not_literal, _not_literal)


def _check(
    data: Mapping[Any, Any],
    scalars: frozenset[type],
    key_types: frozenset[type],
    refuse: Callable[[Any], str],
    refuse_key: Callable[[Any], str],
) -> None:
    """Walk through a message; ``refuse`` returns why a value cannot be sent, empty if it can."""
    stack: list[tuple[Any, _Keys]] = [(data, ())]
    while stack:
        container, keys = stack.pop()
        if len(keys) >= MAX_DEPTH:
            raise EncodeError(
                f"{_place(keys[:3])}: more than {MAX_DEPTH} containers inside each other, or one "
                "inside itself; no peer could read that"
            )
        has_keys = type(container) is dict or isinstance(container, Mapping)
        for key, value in container.items() if has_keys else enumerate(container):
            why = ""
            kind = type(value)
            if kind is dict or kind is list:
                stack.append((value, (*keys, key)))
            elif kind not in scalars:
                why = refuse(value)
                if isinstance(value, _CONTAINERS):
                    stack.append((value, (*keys, key)))
            if has_keys and type(key) not in key_types:
                why = why or refuse_key(key)
                if isinstance(key, tuple):
                    stack.append((key, (*keys, key)))
            if why:
                raise EncodeError(f"{_place((*keys, key))}: {why}")


def _place(keys: _Keys) -> str:
    """Name a place in a message as one would write it in Python."""
    return "message" + "".join(f"[{key!r:.80}]" for key in keys)


def _not_json(value: Any) -> str:
    if isinstance(value, (dict, list, tuple, str, int)):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value!r} is not a number in JSON; {_USE_LEGACY}"
    return f"JSON has no {type(value).__name__}; {_USE_LEGACY}"


def _not_json_key(key: Any) -> str:
    if isinstance(key, str):
        return ""
    return f"keys are strings in JSON, not {type(key).__name__}; {_USE_LEGACY}"


def _not_literal(value: Any) -> str:
    # A subclass will do as long as it writes itself as its base does: a plain subclass of `str`
    # does, an enum, an `OrderedDict` or a `Decimal` does not.
    kind = type(value)
    if kind is set or kind.__repr__ in _REPRS:
        return ""
    return (
        f"the repr of {kind.__name__} is no Python literal; convert it to a dict, list, str, "
        "number or the like"
    )


def _not_unicode(value: Any) -> str:
    try:
        if isinstance(value, str):
            value.encode()
    except UnicodeEncodeError:
        return f"a lone surrogate is no text in JSON; {_USE_LEGACY}"
    return ""
