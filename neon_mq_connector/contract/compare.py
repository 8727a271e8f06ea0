"""Compare two AsyncAPI documents: which changes break those who ask the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neon_mq_connector.contract.schemas import (
    IS_ERROR,
    STREAM,
    Document,
    SchemaChange,
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
        name = _name(key)
        if key not in after:
            found.append(Change(name, "it is gone", breaking=True))
        else:
            found += _Pair(name, old, new).compare(operation, after[key])
    found += [Change(_name(key), "it is new", breaking=False) for key in after if key not in before]
    return sorted(found, key=lambda each: not each.breaking)


class _Pair:
    """An operation in the old document and in the new one."""

    def __init__(self, name: str, old: Document, new: Document) -> None:
        self._name = name
        self._old = old
        self._new = new

    def compare(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
        """Compare what comes in and what goes out."""
        sends = old["action"] == "send"
        yield from self._payloads("event" if sends else "request", sends, old, new)
        if "reply" in old and "reply" not in new:
            yield Change(self._name, "it is not answered any more", breaking=True)
        elif "reply" in new and "reply" not in old:
            yield Change(self._name, "it is answered now", breaking=False)
        elif "reply" in new:
            if old["reply"].get(STREAM, False) != new["reply"].get(STREAM, False):
                way = "in parts" if new["reply"].get(STREAM) else "in one part"
                yield Change(self._name, f"the answer comes {way} now", breaking=True)
            yield from self._payloads("answer", True, old["reply"], new["reply"])

    def _payloads(
        self, kind: str, outgoing: bool, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Iterator[Change]:
        before, after = _payload(self._old, old), _payload(self._new, new)
        for change in changes(self._old, before, self._new, after):
            yield Change(
                f"{self._name}, {kind}{change.path}", change.text, _breaks(change, outgoing)
            )


def _breaks(change: SchemaChange, outgoing: bool) -> bool:
    return change.widens if outgoing else change.narrows


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


def _name(key: tuple[str, str]) -> str:
    return key[1]


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
