"""Field tables with the types of their values, which texts of errors and comparisons depend on.

pika's decoder gives plain values: a 16-bit and a 64-bit integer look alike in them.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

#: Types by their letter on the wire: RabbitMQ's name and the layout of a value of fixed size.
_FIXED = {
    b"t": ("bool", struct.Struct(">?")),
    b"b": ("byte", struct.Struct(">b")),
    b"B": ("unsignedbyte", struct.Struct(">B")),
    b"s": ("short", struct.Struct(">h")),
    b"u": ("unsignedshort", struct.Struct(">H")),
    b"I": ("signedint", struct.Struct(">i")),
    b"i": ("unsignedint", struct.Struct(">I")),
    b"l": ("long", struct.Struct(">q")),
    b"L": ("long", struct.Struct(">q")),
    b"f": ("float", struct.Struct(">f")),
    b"d": ("double", struct.Struct(">d")),
    b"T": ("timestamp", struct.Struct(">Q")),
    b"D": ("decimal", struct.Struct(">BI")),
}
_LETTERS = {name: letter for letter, (name, _) in reversed(_FIXED.items())}
_INTEGERS = frozenset(
    ("byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint")
)
_CLASSES = dict.fromkeys((*_INTEGERS, "decimal"), "int") | {"float": "float", "double": "float"}
_DEEPEST = 64

_size = struct.Struct(">I")


class Field(NamedTuple):
    """A value of a table with RabbitMQ's name for its type.

    Texts are `str` (bytes that are no UTF-8 as surrogates), tables `Table`, arrays lists of fields.
    """

    type: str
    value: Any

    @property
    def is_integer(self) -> bool:
        """Whether the type is one of the integers."""
        return self.type in _INTEGERS

    @property
    def type_class(self) -> str:
        """The name under which RabbitMQ compares the type with others."""
        return _CLASSES.get(self.type, self.type)

    def same_value(self, other: Field) -> bool:
        """Whether both hold the same value, of whatever width."""
        return type(self.value) is type(other.value) and bool(self.value == other.value)


Table = dict[str, Field]


class TableError(ValueError):
    """The bytes are no field table."""


def encode_short_string(text: str) -> bytes:
    """Return the bytes of a short string, its length included."""
    encoded = text.encode(errors="surrogateescape")
    return bytes((len(encoded),)) + encoded


def decode_table(data: bytes, position: int) -> tuple[Table, int]:
    """Read a table.

    Args:
        data: where it is in.
        position: where its size begins.

    Returns:
        The table and the position behind it.

    Raises:
        TableError: it is malformed or nested too deep.
    """
    try:
        entries, position = _decode_entries(data, position, 0, named=True)
        return dict(entries), position
    except (struct.error, IndexError, KeyError) as error:
        raise TableError(f"malformed table: {error!r}") from error


def encode_table(table: Table) -> bytes:
    """Return the bytes of a table, its size included."""
    content = b"".join(
        encode_short_string(key) + _encode_field(field) for key, field in table.items()
    )
    return _size.pack(len(content)) + content


def plain(field: Field) -> Any:
    """Return a field's value as a client of the management interface sees it."""
    if field.type == "table":
        return plain_table(field.value)
    if field.type == "array":
        return [plain(each) for each in field.value]
    return field.value


def plain_table(table: Table) -> dict[str, Any]:
    """Return a table without the types."""
    return {key: plain(field) for key, field in table.items()}


def _decode_entries(
    data: bytes, position: int, depth: int, *, named: bool
) -> tuple[list[tuple[str, Field]], int]:
    """Read the entries of a table, or of an array, which have no names."""
    position, stop = _extent(data, position, depth)
    entries = []
    name = ""
    while position < stop:
        if named:
            start = position + 1
            position = start + data[position]
            name = data[start:position].decode(errors="surrogateescape")
        value, position = _decode_field(data, position, depth)
        entries.append((name, value))
    if position != stop:
        raise TableError("malformed table: a value passes its end")
    return entries, position


def _extent(data: bytes, position: int, depth: int) -> tuple[int, int]:
    if depth > _DEEPEST:
        raise TableError("tables are nested too deep")
    start = position + _size.size
    stop = start + _size.unpack_from(data, position)[0]
    if stop > len(data):
        raise TableError("malformed table: it is longer than its frame")
    return start, stop


def _decode_field(data: bytes, position: int, depth: int) -> tuple[Field, int]:
    letter, position = data[position : position + 1], position + 1
    if letter in (b"S", b"x"):
        position, stop = _extent(data, position, depth)
        value = data[position:stop]
        if letter == b"x":
            return Field("binary", value), stop
        return Field("longstr", value.decode(errors="surrogateescape")), stop
    if letter in (b"F", b"A"):
        entries, position = _decode_entries(data, position, depth + 1, named=letter == b"F")
        if letter == b"F":
            return Field("table", dict(entries)), position
        return Field("array", [value for _, value in entries]), position
    if letter == b"V":
        return Field("void", None), position
    name, layout = _FIXED[letter]
    numbers = layout.unpack_from(data, position)
    return Field(name, numbers if name == "decimal" else numbers[0]), position + layout.size


def _encode_field(field: Field) -> bytes:
    kind, value = field
    if kind == "longstr":
        text: bytes = value.encode(errors="surrogateescape")
        return b"S" + _size.pack(len(text)) + text
    if kind == "binary":
        return b"x" + _size.pack(len(value)) + bytes(value)
    if kind == "table":
        return b"F" + encode_table(value)
    if kind == "array":
        content = b"".join(_encode_field(each) for each in value)
        return b"A" + _size.pack(len(content)) + content
    if kind == "void":
        return b"V"
    letter = _LETTERS[kind]
    layout = _FIXED[letter][1]
    numbers = value if kind == "decimal" else (value,)
    return letter + layout.pack(*numbers)
