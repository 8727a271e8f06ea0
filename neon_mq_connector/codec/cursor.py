"""A place in a text that is being read, and what reading it has cost so far."""

from __future__ import annotations

import re
from typing import Final

from neon_mq_connector.codec.bounds import (
    BRACES_COST,
    CONTAINER_STEPS,
    ENTRY_COST,
    FREE_ENTRIES,
    ITEM_COST,
    LIST_COST,
    Bounds,
    beyond,
    memory_left,
    too_much_memory,
)
from neon_mq_connector.errors import DecodeError

_BLANKS: Final = re.compile(r"[ \t\n\r\f]*")
_COMMENT: Final = re.compile(r"#[^\n\r]*")
_CONTINUATION: Final = re.compile(r"\\(?:\r\n|\n|\r)")


class Cursor:
    """Keep a place in a text of Python literals, and count steps against the bounds.

    Arguments:
        text: the whole text.
        bounds: what reading it may cost.

    Attributes:
        pos: the place: the index of the next character.
        steps: the steps taken so far.
        limit: the number of steps beyond which a bound is exceeded. It sinks with each container,
            as those take memory too.
    """

    __slots__ = ("_free", "_memory", "bounds", "limit", "pos", "steps", "text")

    def __init__(self, text: str, bounds: Bounds) -> None:
        self.text = text
        self.bounds = bounds
        self.pos = 0
        self.steps = 0
        self.limit = 0
        self._memory = memory_left(text, bounds)
        self._free = 0
        self._set_limit()

    def skip(self) -> None:
        """Go on to the next character that is no blank, comment or continued line.

        Raises:
            DecodeError: there is a backslash that continues no line, or a bound is exceeded.
        """
        text = self.text
        while True:
            found = _BLANKS.match(text, self.pos)
            assert found is not None
            self.pos = found.end()
            if text[self.pos : self.pos + 1] not in ("#", "\\"):
                return
            found = _COMMENT.match(text, self.pos) or _CONTINUATION.match(text, self.pos)
            if not found:
                raise self.failure("a backslash that has no place")
            self.spend(3)
            self.pos = found.end()

    def peek(self) -> str:
        """Return the next character, or an empty string at the end of the text."""
        return self.text[self.pos : self.pos + 1]

    def spend(self, steps: int) -> None:
        """Take steps that make no value, and so take no memory.

        Raises:
            DecodeError: a bound is exceeded.
        """
        self.steps += steps
        self._free += steps
        self._set_limit()
        if self.steps > self.limit:
            raise self.overdrawn()

    def spend_container(self, opener: str) -> None:
        """Take the steps and memory that a container takes beside its values.

        Arguments:
            opener: the bracket that opens it.

        Raises:
            DecodeError: a bound is exceeded.
        """
        self._memory -= (BRACES_COST if opener == "{" else LIST_COST) - ITEM_COST
        # The last step is taken when the container becomes a value of what it is in.
        self.spend(CONTAINER_STEPS - 1)

    def spend_table(self, entries: int) -> None:
        """Take the memory that a dict or set takes for the entries beyond its first.

        Raises:
            DecodeError: a bound is exceeded.
        """
        if entries > FREE_ENTRIES:
            self._memory -= (entries - FREE_ENTRIES) * ENTRY_COST
            self.spend(0)

    def overdrawn(self) -> DecodeError:
        """Make the error for the bound that the steps taken exceed."""
        if self.steps > self.bounds.max_steps:
            return beyond(self.bounds, "max_steps", "the message has too many values and keys")
        return too_much_memory("the values", self.bounds)

    def failure(self, what: str, offset: int = 0) -> DecodeError:
        """Make the error for a text that is no literal.

        Arguments:
            what: what is wrong.
            offset: where, from the place. Default 0.

        Returns:
            The error to raise.
        """
        return DecodeError(f"not a Python literal: {what}, at character {self.pos + offset}")

    def _set_limit(self) -> None:
        self.limit = min(self.bounds.max_steps, self._memory // ITEM_COST + self._free)
