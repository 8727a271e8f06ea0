"""String and bytes literals of Python: where they end, and what they mean.

All work is done on pieces of bounded size by functions that are written in C, never character by
character: a string of ten million escapes takes as long as one without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from neon_mq_connector.codec.cursor import Cursor
from neon_mq_connector.errors import DecodeError

PREFIXES: Final = frozenset({"", "r", "u", "b", "br", "rb"})
"""The prefixes of string literals that have a value of their own, in lower case."""

_PIECE: Final = 65536
_FIRST_WINDOW: Final = 64
# No escape is longer, the longest name of a character after \N included.
_LONGEST_ESCAPE: Final = 128

_BARE_NEWLINE: Final = re.compile(r"(?<!\\)\n")
_STR_UNKNOWN: Final = re.compile(r"\\(?![\n'\"abfnrtvxuUN0-7])")
_BYTES_UNKNOWN: Final = re.compile(r"\\(?![\n'\"abfnrtvx0-7])")
_BIG_OCTAL: Final = re.compile(r"\\([4-7][0-7][0-7])")


def find_end(text: str, start: int, delimiter: str) -> int:
    r"""Find where a string literal ends.

    Arguments:
        text: the whole text.
        start: where the contents begin, after the opening quotes.
        delimiter: the closing quotes, one or three.

    Returns:
        The position of the closing quotes.

    Raises:
        DecodeError: there are none.
    """
    begin, size = start, _FIRST_WINDOW
    escape = "\\" + delimiter[0]
    while True:
        window = text[start : start + size]
        if (len(window) - len(window.rstrip("\\"))) % 2:
            # The last backslash escapes what the next window begins with.
            window = window[:-1]
        # Stand-ins of the same length, so positions stay.
        masked = window.replace("\\\\", "\0\0").replace(escape, "\0\0")
        found = masked.find(delimiter)
        if found >= 0:
            return start + found
        if start + size >= len(text):
            raise DecodeError(f"not a Python literal: the string at {begin} has no end")
        # Closing quotes may begin in this window and end in the next. What is masked may not:
        # an escaped quote must not be seen again without its backslash.
        tail = len(masked) - len(masked.rstrip(delimiter[0]))
        start += len(window) - tail
        size = min(size * 4, _PIECE)


def read_contents(cursor: Cursor, contents: str, prefix: str, position: int) -> str | bytes:
    r"""Tell what the contents of a string literal mean.

    Arguments:
        cursor: what takes the steps for escapes that are costly to read, like ``\N{BULLET}``.
        contents: what is between the quotes.
        prefix: one of `PREFIXES`.
        position: where the contents begin in the text, for errors.

    Returns:
        The value.

    Raises:
        DecodeError: an escape is malformed, bytes have a character that is not ASCII, or a bound is
            exceeded.
    """
    if "\r" in contents:
        # As Python does with all of a source.
        contents = contents.replace("\r\n", "\n").replace("\r", "\n")
    is_bytes = "b" in prefix
    if is_bytes and not contents.isascii():
        raise DecodeError(
            f"not a Python literal: a character that is not ASCII in bytes at {position}"
        )
    if "\\" in contents and "r" not in prefix:
        try:
            contents = "".join(_unescaped_pieces(cursor, contents, is_bytes))
        except UnicodeError:
            raise DecodeError(
                f"not a Python literal: a malformed escape in the string at {position}"
            ) from None
    return contents.encode("latin-1") if is_bytes else contents


def has_bare_newline(contents: str) -> bool:
    """Tell whether contents have a newline that is not escaped, which takes three quotes."""
    if "\n" not in contents and "\r" not in contents:
        return False
    contents = contents.replace("\r\n", "\n").replace("\r", "\n").replace("\\\\", "\0\0")
    return _BARE_NEWLINE.search(contents) is not None


def _unescaped_pieces(cursor: Cursor, contents: str, is_bytes: bool) -> Iterator[str]:
    start = 0
    while start < len(contents):
        end = _cut(contents, start)
        yield _unescape(cursor, contents[start:end], is_bytes)
        start = end


def _cut(contents: str, start: int) -> int:
    """Find the end of a piece of contents that splits no escape."""
    end = start + _PIECE
    if end + _LONGEST_ESCAPE >= len(contents):
        return len(contents)
    backslash = contents.find("\\", end, end + _LONGEST_ESCAPE)
    if backslash < 0:
        # An escape that began before `end` is over by now.
        return end + _LONGEST_ESCAPE
    if backslash > end:
        return backslash
    piece = contents[start:end]
    return end + (len(piece) - len(piece.rstrip("\\"))) % 2


def _unescape(cursor: Cursor, piece: str, is_bytes: bool) -> str:
    # Afterwards no backslash is left but those that begin an escape.
    piece = piece.replace("\\\\", "\\x5c")
    # Python keeps the backslash of an escape it does not know, with a warning, which is of no use
    # to anybody here and would be an error where warnings are.
    piece = (_BYTES_UNKNOWN if is_bytes else _STR_UNKNOWN).sub(r"\\x5c", piece)
    if _BIG_OCTAL.search(piece):
        limit = 0xFF if is_bytes else 0x1FF
        piece, count = _BIG_OCTAL.subn(lambda m: f"\\u{int(m[1], 8) & limit:04x}", piece)
        cursor.spend(2 * count)
    names = piece.count("\\N")
    if names:
        cursor.spend(names)
    # The codec takes bytes as Latin-1; other characters become escapes, which it reads back.
    return piece.encode("latin-1", "backslashreplace").decode("unicode_escape")
