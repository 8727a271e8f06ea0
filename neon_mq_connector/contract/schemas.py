"""What changes between two JSON Schemas, and whether it makes them narrower or wider."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Schema = Any

#: In the reply of an operation: the answer comes in parts.
STREAM = "x-neon-stream"
#: In a message: it tells that a request has failed.
IS_ERROR = "x-neon-error"

#: Bounds, and whether a larger number is narrower.
_BOUNDS = {
    "minimum": True,
    "exclusiveMinimum": True,
    "minLength": True,
    "minItems": True,
    "minProperties": True,
    "maximum": False,
    "exclusiveMaximum": False,
    "maxLength": False,
    "maxItems": False,
    "maxProperties": False,
}
_FORMS = ("format", "pattern", "multipleOf", "contentEncoding")
_ANY = "any"


@dataclass(frozen=True)
class SchemaChange:
    """One change of a schema.

    Attributes:
        path: where, such as ``.items[].price``; empty for the whole.
        text: what has changed.
        narrows: whether a value that was valid may be invalid now.
        widens: whether a value that was invalid may be valid now, or a valid one lack a field.
    """

    path: str
    text: str
    narrows: bool
    widens: bool


def resolve(document: Document, value: Any) -> Mapping[str, Any]:
    """Follow the references within a document.

    Raises:
        ValueError: one leads nowhere, or out of the document.
    """
    seen = set()
    while isinstance(value, Mapping) and "$ref" in value:
        reference = value["$ref"]
        if not str(reference).startswith("#/") or reference in seen:
            raise ValueError(f"the reference {reference!r} cannot be followed")
        seen.add(reference)
        value = document
        for part in reference[2:].split("/"):
            try:
                value = value[part.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError):
                raise ValueError(f"the reference {reference!r} leads nowhere") from None
    return value if isinstance(value, Mapping) else {}


def changes(
    old_document: Document, old: Schema, new_document: Document, new: Schema
) -> Iterator[SchemaChange]:
    """Find out what has changed from one schema to another, each with its document."""
    return _Comparison(old_document, new_document).compare("", old, new)


class _Comparison:
    """Compare schemas of two documents; models that contain themselves are entered once."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._entered: set[tuple[int, int]] = set()

    def compare(self, path: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
        """Compare two schemas, each of which may be a union."""
        before, after = _alternatives(self._old, old), _alternatives(self._new, new)
        pairs = [(before[kind], after[kind]) for kind in before if kind in after]
        gone = [kind for kind in before if kind not in after]
        come = [kind for kind in after if kind not in before]
        if len(gone) == len(come) == 1 and _type(gone[0]) == _type(come[0]):
            pairs.append((before[gone[0]], after[come[0]]))  # a model of another name
            gone, come = [], []
        if gone or come:
            yield SchemaChange(
                path,
                f"{_words(before)} became {_words(after)}",
                narrows=not all(_is_among(kind, after) for kind in gone),
                widens=not all(_is_among(kind, before) for kind in come),
            )
        for one, other in pairs:
            if (id(one), id(other)) not in self._entered:
                self._entered.add((id(one), id(other)))
                yield from self._one(path, one, other)

    def _one(
        self, path: str, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Iterator[SchemaChange]:
        yield from _values(path, old, new)
        yield from _bounds(path, old, new)
        yield from self._fields(path, old, new)
        for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
            before, after = old.get(key), new.get(key)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from self.compare(path + mark, before, after)

        places = zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)
        for number, (before, after) in enumerate(places):
            yield from self.compare(f"{path}[{number}]", before, after)

    def _fields(
        self, path: str, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Iterator[SchemaChange]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            where = f"{path}.{name}"
            if name not in after:
                closed = new.get("additionalProperties") is False
                yield SchemaChange(where, "the field is gone", narrows=closed, widens=True)
                continue
            if (name in needed) != (name in needs):
                state = "required" if name in needs else "optional"
                yield SchemaChange(
                    where,
                    f"the field is {state} now",
                    narrows=name in needs,
                    widens=name in needed,
                )
            yield from self.compare(where, before[name], after[name])
        for name in after:
            if name not in before:
                state = "required" if name in needs else "optional"
                yield SchemaChange(
                    f"{path}.{name}", f"a new {state} field", narrows=name in needs, widens=False
                )


def _alternatives(document: Document, schema: Schema) -> dict[str, Mapping[str, Any]]:
    """Return the alternatives of a schema by what they are: a type, and the title of an object."""
    found: dict[str, Mapping[str, Any]] = {}
    todo = [resolve(document, schema)]
    while todo:
        each = todo.pop(0)
        union = each.get("anyOf") or each.get("oneOf")
        if union:
            todo += [resolve(document, part) for part in union]
            continue
        if len(each.get("allOf", ())) == 1:  # how pydantic writes a reference with a default
            todo.append(resolve(document, each["allOf"][0]))
            continue
        types = each.get("type") or _type_of_values(each)
        for kind in types if isinstance(types, list) else [types]:
            title = f" {each['title']}" if kind == "object" and "title" in each else ""
            found.setdefault(f"{kind}{title}", each)
    return found


def _type_of_values(schema: Mapping[str, Any]) -> str | list[str]:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    values = _allowed(schema)
    if not values:
        return "object" if "properties" in schema else _ANY
    return sorted({names.get(type(json.loads(value)), _ANY) for value in values})


def _allowed(schema: Mapping[str, Any]) -> list[str]:
    """Return the only values that a schema allows, as JSON; empty where it allows any."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return [json.dumps(value, sort_keys=True) for value in values]


def _type(kind: str) -> str:
    return kind.partition(" ")[0]


def _is_among(kind: str, kinds: Mapping[str, Any]) -> bool:
    """Whether each value of a kind is of one of others."""
    return _ANY in kinds or (kind == "integer" and "number" in kinds)


def _words(kinds: Mapping[str, Any]) -> str:
    return " or ".join(kinds) or "nothing"


def _values(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[SchemaChange]:
    before, after = _allowed(old), _allowed(new)
    if not before and not after:
        return
    if not before or not after:
        listed = ", ".join(after or before)
        text = f"only {listed} now" if after else f"not only {listed} any more"
        yield SchemaChange(path, text, narrows=bool(after), widens=bool(before))
        return
    for value in before:
        if value not in after:
            yield SchemaChange(path, f"{value} is allowed no more", narrows=True, widens=False)
    for value in after:
        if value not in before:
            yield SchemaChange(path, f"{value} is allowed too", narrows=False, widens=True)


def _bounds(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[SchemaChange]:
    for key in (*_BOUNDS, *_FORMS):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        narrows, widens = after is not None, before is not None
        if key in _BOUNDS and before is not None and after is not None:
            narrows = (after > before) == _BOUNDS[key]
            widens = not narrows
        yield SchemaChange(path, _became(key, before, after), narrows, widens)


def _became(key: str, before: Any, after: Any) -> str:
    if before is None:
        return f"{key} is {after!r} now"
    return f"{key} is no more" if after is None else f"{key} {before!r} became {after!r}"
