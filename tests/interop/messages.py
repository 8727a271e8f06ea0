"""What is sent in these tests: everything that old peers put into a message."""

from __future__ import annotations

from typing import Any

DATA: dict[str, Any] = {
    "text": 'it\'s "quoted", a\\b, naïve 😀, \ud7ff and\nlines',
    "numbers": (0, -1, 1.5, 10**30, 1e300),
    "constants": [None, True, False],
    "bytes": b"\x00\xff'\"",
    "nested": {"empty": [{}, [], ()], 1: "a key that is no text", None: "nor this"},
    "words": "None, True and {not: 'code'}",
}


def message_id_of(reply: dict[str, Any]) -> Any:
    """Return the request's id as an old client reads it from a reply."""
    in_context = reply.get("context", {}).get("mq", {}).get("message_id")
    return in_context or reply.get("message_id")
