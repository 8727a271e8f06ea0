"""Write received values as JSON that any program can read and that is safe on a terminal."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

# Not escaped by `json`: half surrogates, which no encoding takes, and control characters that
# terminals obey.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def to_json(value: Any, *, pretty: bool) -> str:
    """Write a value as JSON text.

    Args:
        value: what a message held. The legacy format knows more than JSON does: a tuple or a set
            becomes a list, bytes become a text (or ``{"base64": ...}`` where they are none), a
            complex number or one that is not finite becomes a text, so does every key.
        pretty: in several lines, indented; otherwise in one.

    Returns:
        The text, without a newline at its end.
    """
    text = json.dumps(
        jsonable(value),
        ensure_ascii=False,
        indent=2 if pretty else None,
        separators=None if pretty else (",", ":"),
    )
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def jsonable(value: Any) -> Any:
    """Turn a value into one that JSON has."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [jsonable(item) for item in sorted(value, key=repr)]
    if isinstance(value, (bytes, bytearray)):
        return _text_of(bytes(value))
    return str(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    plain = jsonable(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _text_of(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
