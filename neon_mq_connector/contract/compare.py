"""Compare two AsyncAPI documents of services: which changes break those who ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neon_mq_connector.contract.files import IS_ERROR, STREAM, Document, resolve

_Schema = Mapping[str, Any]

#: Bounds: of those below a larger number is narrower, of those above a smaller one.
_BELOW = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_ABOVE = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS = ("format", "pattern", "multipleOf", "contentEncoding")
_ANY = "any"


@dataclass(frozen=True)
class Change:
    """One change between two documents.

    Attributes:
        where: the queue or exchange, and the field.
        what: what has changed.
        breaking: whether those who keep to the old document may fail.
    """

    where: str
    what: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def compare(old: Document, new: Document) -> list[Change]:
    """Compare two documents, as `read_document` returns them.

    A request that was right has to stay right: nothing may be narrower. An answer has to stay what
    it was: no field may go, nothing may be wider.

    Args:
        old: what callers know.
        new: what is to come.

    Returns:
        The changes, those that break callers first.
    """
    before, after = _operations(old), _operations(new)
    found: list[Change] = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            found.append(Change(name, "it is gone", breaking=True))
        elif name not in before:
            found.append(Change(name, "it is new", breaking=False))
        else:
            found += _changes(name, (old, before[name]), (new, after[name]))
    return sorted(found, key=lambda each: not each.breaking)


def _operations(document: Document) -> dict[str, Mapping[str, Any]]:
    """Return the operations by their queue or exchange: their ids are names of methods."""
    found = {}
    for operation in (document.get("operations") or {}).values():
        channel = resolve(document, operation["channel"])
        amqp = channel.get("bindings", {}).get("amqp", {})
        kind = "exchange" if amqp.get("is") == "routingKey" else "queue"
        found[f"{kind} {channel.get('address')!r}"] = operation
    return found


#: An operation, or its reply, with the document that it is in.
_Part = tuple[Document, Mapping[str, Any]]


def _changes(name: str, old: _Part, new: _Part) -> Iterator[Change]:
    """Compare what an operation takes and what it answers."""
    request = _Comparison(f"{name}, request", old[0], new[0], is_answer=False)
    yield from request.compare("", _payload(*old), _payload(*new))
    before, after = old[1].get("reply"), new[1].get("reply")
    if before is None or after is None:
        if before is not None:
            yield Change(name, "it is not answered any more", breaking=True)
        elif after is not None:
            yield Change(name, "it is answered now", breaking=False)
        return
    if before.get(STREAM, False) != after.get(STREAM, False):
        way = "in parts" if after.get(STREAM) else "in one part"
        yield Change(name, f"the answer comes {way} now", breaking=True)
    answer = _Comparison(f"{name}, answer", old[0], new[0], is_answer=True)
    yield from answer.compare("", _payload(old[0], before), _payload(new[0], after))


def _payload(document: Document, holder: Mapping[str, Any]) -> _Schema:
    """Return the schema of the message that does not tell of an error."""
    messages = (resolve(document, each) for each in holder.get("messages", ()))
    return next((each.get("payload", {}) for each in messages if not each.get(IS_ERROR)), {})


@dataclass
class _Comparison:
    """Compare schemas of two documents; models that contain themselves are entered once.

    Attributes:
        where: how the places of changes begin.
        old: the document of the old schemas.
        new: that of the new ones.
        is_answer: whether callers read such values; else they send them.
    """

    where: str
    old: Document
    new: Document
    is_answer: bool
    _entered: set[tuple[int, int]] = field(default_factory=set)

    def compare(self, path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
        """Compare two schemas, each of which may be a union."""
        before, after = _alternatives(self.old, old), _alternatives(self.new, new)
        pairs = [(before[kind], after[kind]) for kind in before if kind in after]
        gone = [kind for kind in before if kind not in after]
        come = [kind for kind in after if kind not in before]
        if len(gone) == len(come) == 1 and gone[0].split()[0] == come[0].split()[0]:
            pairs.append((before[gone[0]], after[come[0]]))  # a model of another name
        elif gone or come:
            yield self._change(
                path,
                f"{_words(before)} became {_words(after)}",
                narrows=not all(_is_among(kind, after) for kind in gone),
                widens=not all(_is_among(kind, before) for kind in come),
            )
        for one, other in pairs:
            if (id(one), id(other)) not in self._entered:
                self._entered.add((id(one), id(other)))
                yield from self._values(path, one, other)
                yield from self._bounds(path, one, other)
                yield from self._fields(path, one, other)
                yield from self._items(path, one, other)

    def _values(self, path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
        before, after = _allowed(old), _allowed(new)
        if bool(before) != bool(after):
            listed = ", ".join(after or before)
            text = f"only {listed} now" if after else f"not only {listed} any more"
            yield self._change(path, text, narrows=bool(after), widens=bool(before))
            return
        for value in dict.fromkeys((*before, *after)):
            if value not in after:
                yield self._change(path, f"{value} is allowed no more", narrows=True)
            elif value not in before:
                yield self._change(path, f"{value} is allowed too", widens=True)

    def _bounds(self, path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
        for key in (*_BELOW, *_ABOVE, *_FORMS):
            before, after = old.get(key), new.get(key)
            if before == after:
                continue
            narrows = widens = True
            text = f"{key} {before!r} became {after!r}"
            if before is None:
                text, widens = f"{key} is {after!r} now", False
            elif after is None:
                text, narrows = f"{key} is no more", False
            elif key not in _FORMS:
                narrows = (after > before) == (key in _BELOW)
                widens = not narrows
            yield self._change(path, text, narrows=narrows, widens=widens)

    def _fields(self, path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in dict.fromkeys((*before, *after)):
            where = f"{path}.{name}"
            needed, needs = name in old.get("required", ()), name in new.get("required", ())
            state = "required" if needs else "optional"
            if name not in after:
                closed = new.get("additionalProperties") is False
                yield self._change(where, "the field is gone", narrows=closed, widens=True)
            elif name not in before:
                yield self._change(where, f"a new {state} field", narrows=needs)
            else:
                if needed != needs:
                    text = f"the field is {state} now"
                    yield self._change(where, text, narrows=needs, widens=needed)
                yield from self.compare(where, before[name], after[name])

    def _items(self, path: str, old: _Schema, new: _Schema) -> Iterator[Change]:
        for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
            before, after = old.get(key), new.get(key)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from self.compare(path + mark, before, after)
        places = zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)
        for number, (before, after) in enumerate(places):
            yield from self.compare(f"{path}[{number}]", before, after)

    def _change(
        self, path: str, text: str, *, narrows: bool = False, widens: bool = False
    ) -> Change:
        """Return a change.

        Args:
            path: where, such as ``.items[].price``; empty for the whole.
            text: what has changed.
            narrows: whether a value that was valid may be invalid now.
            widens: whether an invalid one may be valid now, or a valid one lack a field.
        """
        breaking = widens if self.is_answer else narrows
        return Change(f"{self.where}{path}", text, breaking)


def _alternatives(document: Document, schema: _Schema) -> dict[str, _Schema]:
    """Return the alternatives of a schema by what they are: a type, and the title of an object."""
    found: dict[str, _Schema] = {}
    todo = [schema]
    while todo:
        each = resolve(document, todo.pop(0))
        parts = each.get("anyOf") or each.get("oneOf")
        if not parts and len(each.get("allOf", ())) == 1:
            parts = each["allOf"]  # how pydantic writes a reference with a default
        if parts:
            todo += parts
            continue
        types = each.get("type") or _type_of_values(each)
        for kind in types if isinstance(types, list) else [types]:
            title = f" {each['title']}" if kind == "object" and "title" in each else ""
            found.setdefault(f"{kind}{title}", each)
    return found


def _type_of_values(schema: _Schema) -> str | list[str]:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    values = _allowed(schema)
    if not values:
        return "object" if "properties" in schema else _ANY
    return sorted({names.get(type(json.loads(value)), _ANY) for value in values})


def _allowed(schema: _Schema) -> list[str]:
    """Return the only values that a schema allows, as JSON; empty where it allows any."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return [json.dumps(value, sort_keys=True) for value in values]


def _is_among(kind: str, kinds: Mapping[str, Any]) -> bool:
    """Whether each value of a kind is of one of others."""
    return _ANY in kinds or (kind == "integer" and "number" in kinds)


def _words(kinds: Mapping[str, Any]) -> str:
    return " or ".join(kinds) or "nothing"
