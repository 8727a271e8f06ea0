"""How much one message may cost its reader, and the errors that say so.

A message comes from elsewhere, so everything that its bytes can make the reader spend has a
bound: memory (`MAX_BODY`, `MAX_TEXT`, `MAX_MEMORY`), stack (`MAX_DEPTH`), and time, which is
proportional to these but for what `MAX_INT_DIGITS` and `MAX_EQUAL_HASHES` keep so.
"""

from __future__ import annotations

import sys
from typing import Final

from neon_mq_connector.errors import DecodeError

_MIB: Final = 1024 * 1024

#: Bytes of a body as it came; the largest message that RabbitMQ 4 takes as it is delivered.
MAX_BODY: Final = 16 * _MIB
#: Bytes that the text of a message takes: its characters times 1, 2 or 4, as the widest needs.
MAX_TEXT: Final = 20 * _MIB
#: Bytes that reading is estimated to take: the text, `TEXT_COPIES` times, and what the values cost.
#: The reader of Python literals, for what JSON cannot express, takes every value for a string.
MAX_MEMORY: Final = 96 * _MIB
#: Lists, tuples, sets, dicts and parentheses inside each other, as in Python's own parser.
MAX_DEPTH: Final = 200
#: Digits of one integer, as in `sys.set_int_max_str_digits`.
MAX_INT_DIGITS: Final = 4300
#: Keys of one dict or members of one set, other than strings, that may have the same hash. Many
#: such keys are an attack: each costs a comparison with all before it.
MAX_EQUAL_HASHES: Final = 16

# What values are estimated to take, in bytes.
#: A reference to a value.
REFERENCE_COST: Final = 10
#: A number, unless it is a small integer.
NUMBER_COST: Final = 32
#: A string of more than one character, beyond its characters.
STRING_COST: Final = 64
#: A value of which nothing is known.
ITEM_COST: Final = REFERENCE_COST + STRING_COST
#: A list or tuple, its values aside.
LIST_COST: Final = 104
#: A dict or set, with room for `FREE_ENTRIES`; and each further entry, while it grows.
BRACES_COST: Final = 232
FREE_ENTRIES: Final = 5
ENTRY_COST: Final = 64
#: Copies of a text that exist at once while it is read: itself, its translation, its strings.
TEXT_COPIES: Final = 3

#: Pieces that a text is cut into before they are put together again; an even number.
PIECES_AT_ONCE: Final = 100_000


class BoundExceededError(DecodeError):
    """The message may be well-formed, but exceeds a bound."""


def bound_exceeded(bound: int, what: str) -> BoundExceededError:
    """Return the error for a message of which there is more than a bound allows."""
    return BoundExceededError(f"{what}; the bound is {bound}: send less in one message")


def too_much_memory(what: str) -> BoundExceededError:
    """Return the error for a message whose values would exceed `MAX_MEMORY`."""
    return bound_exceeded(MAX_MEMORY, f"{what} beside the text would take too much memory")


def check_body(body: bytes) -> None:
    """Refuse a body that has more bytes than `MAX_BODY`."""
    if len(body) > MAX_BODY:
        raise bound_exceeded(MAX_BODY, f"the message body has {len(body)} bytes")


def check_text(text: str) -> None:
    """Refuse a text that takes more memory than `MAX_TEXT`."""
    size = sys.getsizeof(text)
    if size > MAX_TEXT:
        raise bound_exceeded(MAX_TEXT, f"the text of the message takes {size} bytes of memory")


def memory_left(text: str) -> int:
    """Return how many bytes the values of a text may take, beside the copies of it."""
    return MAX_MEMORY - TEXT_COPIES * sys.getsizeof(text)
