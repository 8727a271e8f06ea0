"""Compare two AsyncAPI documents: which changes break those who ask the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neon_mq_connector.contract.schemas import (
    IS_ERROR,
    STREAM,
    Document,
    changes,
    resolve,
)


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
    for key, operation in before.items():
        _, name = key
        if key not in after:
            found.append(Change(name, "it is gone", breaking=True))
        else:
            found += _changes(name, (old, operation), (new, after[key]))
    found += [Change(key[1], "it is new", breaking=False) for key in after if key not in before]
    return sorted(found, key=lambda each: not each.breaking)


#: An operation, or its reply, with the document that it is in.
_Part = tuple[Document, Mapping[str, Any]]


def _changes(name: str, old: _Part, new: _Part) -> Iterator[Change]:
    """Compare what comes in and what goes out."""
    sends = old[1]["action"] == "send"
    yield from _payload_changes(f"{name}, {'event' if sends else 'request'}", sends, old, new)
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
    yield from _payload_changes(f"{name}, answer", True, (old[0], before), (new[0], after))


def _payload_changes(where: str, outgoing: bool, old: _Part, new: _Part) -> Iterator[Change]:
    for change in changes(old[0], _payload(*old), new[0], _payload(*new)):
        breaking = change.widens if outgoing else change.narrows
        yield Change(f"{where}{change.path}", change.text, breaking)


def _operations(document: Document) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the operations by what they do and where: their ids are names of methods."""
    found = {}
    for operation in (document.get("operations") or {}).values():
        operation = resolve(document, operation)
        channel = resolve(document, operation["channel"])
        found[(operation["action"], _address(channel))] = operation
    return found


def _address(channel: Mapping[str, Any]) -> str:
    amqp = channel.get("bindings", {}).get("amqp", {})
    if amqp.get("is") == "routingKey":
        exchange = amqp.get("exchange", {}).get("name", "")
        return f"exchange {exchange!r}"
    return f"queue {channel.get('address')!r}"


def _payload(document: Document, operation: Mapping[str, Any]) -> Any:
    """Return the schema of the messages, but of those that tell of an error."""
    holder = operation
    if not operation.get("messages"):
        holder = resolve(document, operation.get("channel", {}))
    messages = holder.get("messages", [])
    listed = messages.values() if isinstance(messages, Mapping) else messages
    payloads = [
        message.get("payload", {})
        for message in (resolve(document, each) for each in listed)
        if not message.get(IS_ERROR)
    ]
    return payloads[0] if len(payloads) == 1 else {"anyOf": payloads} if payloads else {}
