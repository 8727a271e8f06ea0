"""A reader of Python literals for bytes from the network.

It reads what `ast.literal_eval` reads and gives the same values, but it executes nothing, builds no
syntax tree, does not recurse, takes time proportional to the text, and keeps to `Bounds`. Beyond
`ast.literal_eval` it reads ``inf`` and ``nan``, which `repr` writes for floats, and ``true``,
``false`` and ``null``.

Most of a text that `repr` wrote is simple: a value, then a comma, colon or bracket. One regular
expression matches both; what it does not match is for `operands`.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final

from neon_mq_connector.codec.bounds import (
    DEFAULT_BOUNDS,
    ODD_STEPS,
    Bounds,
    beyond,
    check_text,
)
from neon_mq_connector.codec.cursor import Cursor
from neon_mq_connector.codec.disguise import make_dict, make_set
from neon_mq_connector.codec.operands import (
    CONSTANTS,
    Kind,
    Operand,
    Sign,
    read_operand,
    unescape_simple,
    with_sign,
)
from neon_mq_connector.codec.strings import read_contents

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}

# Lengths are bounded because a match that fails has tried all shorter ones.
_SIMPLE: Final = re.compile(
    r"""[ \t\n\r\f]*
    ( b?'[^'\\\n\r]{0,4096}(?:\\[\\'"nrtxu][^'\\\n\r]{0,512}){0,32}'(?!')
    | b?"[^"\\\n\r]{0,4096}(?:\\[\\'"nrtxu][^"\\\n\r]{0,512}){0,32}"(?!")
    | -?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,32}(?:e[-+]?[0-9]{1,4})?|e[-+]?[0-9]{1,4})?
    | None | True | False
    | [\[({]
    )?
    [ \t\n\r\f]*([,:\])}])?""",
    re.VERBOSE,
)


class _Shape(enum.Enum):
    """What a bracket has shown itself to be."""

    OPEN = enum.auto()  # nothing yet: parentheses around one value, a set, a dict, or the whole
    SEQUENCE = enum.auto()  # a list, tuple or set: values with commas between them
    MAPPING = enum.auto()


class _Frame:
    """A bracket that is open, and what is in it."""

    __slots__ = ("items", "opener", "shape", "sign")

    def __init__(self, opener: str, sign: Sign | None) -> None:
        self.opener = opener  # empty for the text as a whole
        self.items: list[Any] = []  # of a mapping: key, value, key, value...
        self.shape = _SEQUENCE if opener == "[" else _Shape.OPEN
        self.sign = sign


# Members of an enum are slow to look up on some versions of Python.
_NUMERIC: Final = Kind.NUMBER
_SIGNED: Final = Kind.SIGNED
_SET: Final = Kind.SET
_OTHER: Final = Kind.OTHER
_OPENER: Final = Kind.OPENER
_CLOSER: Final = Kind.CLOSER
_SEQUENCE: Final = _Shape.SEQUENCE
_MAPPING: Final = _Shape.MAPPING


def parse_literal(text: str, bounds: Bounds = DEFAULT_BOUNDS) -> Any:
    """Read one Python literal.

    Arguments:
        text: the whole text; blanks and comments around the literal are skipped.
        bounds: what the text may cost. Default `DEFAULT_BOUNDS`.

    Returns:
        The value that `ast.literal_eval` returns.

    Raises:
        DecodeError: the text is not a literal, or exceeds a bound, which the message names.
    """
    check_text(text, bounds)
    return _Reader(text, bounds).read()


def _bytes(cursor: Cursor, token: str, position: int) -> str | bytes:
    return read_contents(cursor, token[2:-1], "b", position + 2)


class _Reader:
    __slots__ = ("_cursor", "_stack")

    def __init__(self, text: str, bounds: Bounds) -> None:
        self._cursor = Cursor(text, bounds)
        self._stack = [_Frame("", None)]

    def read(self) -> Any:
        cursor, stack = self._cursor, self._stack
        text = cursor.text
        frame, items = stack[0], stack[0].items
        # Steps are counted here, and in the cursor while anything else is at work.
        steps, limit = 0, cursor.limit
        kind: Kind = _OTHER
        value: Any = None
        closed = False  # a bracket was closed, and it is not known yet what follows it
        # The pattern matches everywhere, if only nothing: no step is past what follows.
        advance = _SIMPLE.finditer(text).__next__
        while True:
            found = advance()
            token, fraction, after = found.groups()
            if token is not None and after is not None and not closed:
                first = token[0]
                if first in "'\"":
                    kind, value = _OTHER, token[1:-1]
                    if "\\" in value:
                        steps += 1
                        value = unescape_simple(cursor, value, found.start(1) + 1)
                elif first in "-0123456789":
                    kind = _SIGNED if first == "-" else _NUMERIC
                    value = int(token) if fraction is None else float(token)
                elif first == "b":
                    steps += 1
                    kind, value = _OTHER, _bytes(cursor, token, found.start(1))
                elif token in CONSTANTS:
                    kind, value = _OTHER, CONSTANTS[token]
                else:
                    cursor.steps = steps
                    frame = self._open(token, None)
                    items, steps, limit = frame.items, cursor.steps, cursor.limit
                    kind = _CLOSER
            elif token is None and after is not None:
                if not closed:
                    kind = _CLOSER
                closed = False
            else:
                cursor.pos, cursor.steps = found.start(), steps
                if token is not None and token in _CLOSERS and not closed:
                    kind, value = _OPENER, token
                    frame = self._open(token, None)
                    items, steps, limit = frame.items, cursor.steps, cursor.limit
                    continue
                cursor.spend(ODD_STEPS)
                kind, value, after = self._finish(kind, value) if closed else self._value()
                closed = False
                frame = stack[-1]
                items, steps, limit = frame.items, cursor.steps, cursor.limit
                advance = _SIMPLE.finditer(text, cursor.pos).__next__
                if kind is _OPENER:
                    continue
            if kind is not _CLOSER:
                items.append(value)
                steps += 1
                if steps > limit:
                    cursor.steps = steps
                    raise cursor.overdrawn()
                if after == ",":
                    shape = frame.shape
                    if shape is _SEQUENCE or (shape is _MAPPING and len(items) % 2 == 0):
                        continue
                elif after == ":" and frame.shape is _MAPPING and len(items) % 2:
                    continue
                elif not after:
                    return self._end(frame, kind)
            # For errors; exact only where it costs nothing.
            cursor.pos = max(cursor.pos, found.end())
            if after in ",:":
                self._separate(frame, kind, after)
                continue
            cursor.steps = steps
            kind, value = self._close(after, kind)
            closed = True
            frame, limit = stack[-1], cursor.limit
            items = frame.items

    def _value(self) -> tuple[Kind, Any, str]:
        """Read one value and the character that follows it, in all the ways Python allows."""
        cursor = self._cursor
        cursor.skip()
        sign = None
        char = cursor.peek()
        if char and char in "+-":
            sign = Sign(char, None)
            cursor.pos += 1
            cursor.skip()
        kind, value = read_operand(cursor, sign)
        if kind is _OPENER:
            self._open(value, sign)
            return kind, None, ""
        if kind is _CLOSER:
            return kind, None, value
        return self._finish(*with_sign(cursor, sign, kind, value))

    def _finish(self, kind: Kind, value: Any) -> tuple[Kind, Any, str]:
        """Read what follows a value: an operator and its right side, a call of `set`, the end."""
        cursor = self._cursor
        while True:
            cursor.skip()
            char = cursor.peek()
            if not char:
                return kind, value, ""
            cursor.pos += 1
            if char in ",:)]}":
                if kind is _SET and char != ")":
                    raise cursor.failure("`set` that is not called", -1)
                return kind, value, char
            cursor.skip()
            if char in "+-" and kind in (_NUMERIC, _SIGNED) and type(value) is not complex:
                sign = Sign(char, value)
                kind, value = read_operand(cursor, sign)
                if kind is _OPENER:
                    self._open(value, sign)
                    return kind, None, ""
                kind, value = with_sign(cursor, sign, kind, value)
            elif char == "(" and kind is _SET and cursor.peek() == ")":
                cursor.pos += 1
                kind, value = _OTHER, set()
                cursor.spend_container("{")
            else:
                raise cursor.failure("something after a value that does not belong there", -1)

    def _open(self, opener: str, sign: Sign | None) -> _Frame:
        bounds = self._cursor.bounds
        if len(self._stack) > bounds.max_depth:
            raise beyond(bounds, "max_depth", "the message is nested too deep")
        self._cursor.spend_container(opener)
        frame = _Frame(opener, sign)
        self._stack.append(frame)
        return frame

    def _separate(self, frame: _Frame, kind: Kind, separator: str) -> None:
        """Take the first comma or colon in a bracket, or fail for one that has no place."""
        right = kind is not _CLOSER and kind is not _SET
        if right and frame.opener and frame.shape is _Shape.OPEN:
            if separator == ",":
                frame.shape = _SEQUENCE
                return
            if frame.opener == "{":
                frame.shape = _MAPPING
                return
        raise self._cursor.failure(f"{separator!r} where it has no place", -1)

    def _close(self, closer: str, kind: Kind) -> Operand:
        frame, cursor = self._stack.pop(), self._cursor
        items = frame.items
        if _CLOSERS.get(frame.opener) != closer:
            raise cursor.failure(f"{closer!r} closes nothing that is open", -1)
        if closer == ")" and items and frame.shape is not _SEQUENCE:
            return with_sign(cursor, frame.sign, kind, items[0])
        if frame.sign is not None or kind is _SET:
            raise cursor.failure("no number where one must be", -1)
        if closer == ")":
            return _OTHER, tuple(items)
        if closer == "}":
            return _OTHER, self._dict_or_set(frame)
        return _OTHER, items

    def _end(self, frame: _Frame, kind: Kind) -> Any:
        if frame.opener or kind is _SET:
            raise self._cursor.failure("the text ends too early")
        return frame.items[0]

    def _dict_or_set(self, frame: _Frame) -> dict[Any, Any] | set[Any]:
        items = frame.items
        is_dict = frame.shape is _MAPPING or not items
        if is_dict and len(items) % 2:
            raise self._cursor.failure("a key without a value", -1)
        self._cursor.spend_table(len(items) // 2 if is_dict else len(items))
        bounds = self._cursor.bounds
        return make_dict(items, bounds) if is_dict else make_set(items, bounds)
