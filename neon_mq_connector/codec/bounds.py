"""How much one message may cost its reader, and the errors that say so.

A message comes from elsewhere, so everything that its bytes can make the reader spend has a
bound: memory (`Bounds.max_body`, `Bounds.max_text`, `Bounds.max_memory`), stack
(`Bounds.max_depth`), and time, which is proportional to these but for what `Bounds.max_int_digits`
and `Bounds.max_equal_hashes` keep so.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from neon_mq_connector.errors import DecodeError

_MIB: Final = 1024 * 1024

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
#: Characters of a text that cannot exceed any default bound but that on depth.
SMALL: Final = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """State what one message may cost its reader.

    Arguments:
        max_body: bytes of the body as it came from the broker. The default, 16 MiB, is the largest
            message that RabbitMQ 4 takes as it is delivered.
        max_text: bytes that the text of the message takes in memory: its characters times 1, 2 or
            4, as the widest of them needs. Default 20 MiB.
        max_memory: bytes that reading is estimated to take: three times the text; 10 for each value
            or key; and besides, 64 for a string longer than one character, 32 for a number that is
            no small integer, 104 for a list or tuple, 232 for a dict or set, and 64 for each of its
            entries after the fifth. Where the reader of Python literals is at work, which reads
            what JSON cannot express, every value is taken for a string. Default 96 MiB.
        max_depth: lists, tuples, sets, dicts and parentheses inside each other. Default 200, as in
            Python's own parser.
        max_int_digits: digits of one integer; 18 are always allowed. Default 4300, as in
            `sys.set_int_max_str_digits`.
        max_equal_hashes: keys of one dict or members of one set, other than strings, that may have
            the same hash. Default 16. Many such keys are an attack: each costs a comparison with
            all before it.
    """

    max_body: int = 16 * _MIB
    max_text: int = 20 * _MIB
    max_memory: int = 96 * _MIB
    max_depth: int = 200
    max_int_digits: int = 4300
    max_equal_hashes: int = 16


DEFAULT_BOUNDS: Final = Bounds()
"""The bounds that apply unless others are passed."""


class BoundExceededError(DecodeError):
    """The message may be well-formed, but exceeds a bound."""


def beyond(bounds: Bounds, name: str, what: str) -> BoundExceededError:
    """Return the error for a message that exceeds the bound of this name.

    Its text says what there is too much of, names the bound and its value, and what to do.
    """
    return BoundExceededError(
        f"{what}; the bound is {getattr(bounds, name)} ({name}): send less in one message, "
        f"or read it with Bounds({name}=...)"
    )


def too_much_memory(what: str, bounds: Bounds) -> BoundExceededError:
    """Return the error for a message whose values would exceed `Bounds.max_memory`."""
    return beyond(bounds, "max_memory", f"{what} beside the text would take too much memory")


def check_body(body: bytes, bounds: Bounds) -> None:
    """Refuse a body that has more bytes than `Bounds.max_body`."""
    if len(body) > bounds.max_body:
        raise beyond(bounds, "max_body", f"the message body has {len(body)} bytes")


def check_text(text: str, bounds: Bounds) -> None:
    """Refuse a text that takes more memory than `Bounds.max_text`."""
    size = sys.getsizeof(text)
    if size > bounds.max_text:
        raise beyond(bounds, "max_text", f"the text of the message takes {size} bytes of memory")


def memory_left(text: str, bounds: Bounds) -> int:
    """Return how many bytes the values of a text may take, beside the copies of it."""
    return bounds.max_memory - TEXT_COPIES * sys.getsizeof(text)
