"""Whether a message can be put on the wire, and if not, which value of it cannot.

Both formats would take some values silently and deliver something else, or what nobody can read:
JSON turns the key 1 into "1", and the `repr` of a date is no Python literal. So a message is walked
through before it is written. The walk does not recurse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from neon_mq_connector.codec.bounds import DEFAULT_BOUNDS
from neon_mq_connector.errors import EncodeError

_MAX_DEPTH: Final = DEFAULT_BOUNDS.max_depth

_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)

_JSON_SCALARS: Final = frozenset({str, int, bool, type(None)})
_SCALARS: Final = frozenset({str, int, bool, type(None), float, bytes, complex})
_CONTAINERS: Final = (dict, list, tuple, set)
_REPRS: Final[dict[type, Callable[[Any], str]]] = {
    kind: kind.__repr__ for kind in (str, int, float, bytes, complex, dict, list, tuple, set)
}


_Keys = tuple[Any, ...]

_USE_LEGACY: Final = "use the legacy format, or send something that JSON has"
_USE_PLAIN: Final = "convert it to a dict, list, str, number or the like"


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
    check_json(data)
    try:
        return _ENCODER.encode(data if isinstance(data, dict) else dict(data)).encode()
    except UnicodeEncodeError:
        raise EncodeError(
            f"{_place_of_surrogate(data)}: a lone surrogate is no text in JSON; {_USE_LEGACY}"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"the message cannot be written as JSON: {error}") from error


def check_json(data: Mapping[Any, Any]) -> None:
    """Refuse a message that JSON cannot carry unchanged.

    Raises:
        EncodeError: it cannot; the message names the key and what will do.
    """
    stack: list[tuple[Any, _Keys]] = [(data, ())]
    while stack:
        container, keys = stack.pop()
        if len(keys) >= _MAX_DEPTH:
            raise _too_deep(keys)
        for key, value in _entries(container):
            kind = type(value)
            if kind in _JSON_SCALARS:
                pass
            elif isinstance(value, (dict, list, tuple)):
                stack.append((value, (*keys, key)))
            elif isinstance(value, float):
                if not math.isfinite(value):
                    raise _unfit(keys, key, f"{value!r} is not a number in JSON", _USE_LEGACY)
            elif not isinstance(value, (str, int)):
                raise _unfit(keys, key, f"JSON has no {kind.__name__}", _USE_LEGACY)
            if type(key) is not str and isinstance(container, Mapping) and not isinstance(key, str):
                raise _unfit(
                    keys, key, f"keys are strings in JSON, not {type(key).__name__}", _USE_LEGACY
                )


def check_legacy(data: Mapping[Any, Any]) -> None:
    """Refuse a message whose `repr` would not be a Python literal.

    Raises:
        EncodeError: it would not; the message names the key and what will do.
    """
    stack: list[tuple[Any, _Keys]] = [(data, ())]
    while stack:
        container, keys = stack.pop()
        if len(keys) >= _MAX_DEPTH:
            raise _too_deep(keys)
        for key, value in _entries(container):
            if type(value) not in _SCALARS:
                _check_literal(value, keys, key)
                if isinstance(value, _CONTAINERS):
                    stack.append((value, (*keys, key)))
            if type(key) is not str and isinstance(container, Mapping):
                _check_literal(key, keys, key)
                if isinstance(key, tuple):
                    stack.append((key, (*keys, key)))


def _check_literal(value: Any, keys: _Keys, key: Any) -> None:
    # A subclass will do as long as it writes itself as its base does: a plain subclass of `str`
    # does, an enum, an `OrderedDict` or a `Decimal` does not.
    kind = type(value)
    if kind in _SCALARS or kind in _CONTAINERS:
        return
    for base, base_repr in _REPRS.items():
        if issubclass(kind, base) and kind.__repr__ is base_repr:
            return
    raise _unfit(keys, key, f"the repr of {kind.__name__} is no Python literal", _USE_PLAIN)


def _entries(container: Any) -> Iterable[tuple[Any, Any]]:
    if type(container) is dict or isinstance(container, Mapping):
        return container.items()
    return enumerate(container)


def _unfit(keys: _Keys, key: Any, why: str, remedy: str) -> EncodeError:
    return EncodeError(f"{_place((*keys, key))}: {why}; {remedy}")


def _too_deep(keys: _Keys) -> EncodeError:
    return EncodeError(
        f"{_place(keys[:3])}: more than {_MAX_DEPTH} containers inside each other, or one inside "
        "itself; no peer could read that"
    )


def _place(keys: _Keys) -> str:
    """Name a place in a message as one would write it in Python."""
    return "message" + "".join(f"[{key!r:.80}]" for key in keys)


def _place_of_surrogate(data: Mapping[Any, Any]) -> str:
    stack: list[tuple[Any, _Keys]] = [(data, ())]
    while stack:
        container, keys = stack.pop()
        for key, value in _entries(container):
            if not (_is_text(key) and _is_text(value)):
                return _place((*keys, key))
            if isinstance(value, (dict, list, tuple)):
                stack.append((value, (*keys, key)))
    return _place(())


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
