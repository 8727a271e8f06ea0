"""Exchanges, bindings, and which bindings match a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from operator import or_

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.tables import Field, Table

#: How the names of exchanges and queues begin that only the broker may give.
RESERVED = "amq."
TRACE_EXCHANGE = "amq.rabbitmq.trace"
TYPES = ("direct", "fanout", "headers", "topic")
#: The exchanges that every virtual host has, with their types.
PREDECLARED = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    TRACE_EXCHANGE: "topic",
    "amq.topic": "topic",
}
_MATCHES = ("all", "any", "all-with-x", "any-with-x")


@dataclass(frozen=True)
class Binding:
    """A binding of an exchange to a queue or to another exchange.

    Attributes:
        source: the name of the exchange.
        kind: of the destination: `queue` or `exchange`.
        destination: its name.
        routing_key: the binding key.
        arguments: of the binding.
    """

    source: str
    kind: str
    destination: str
    routing_key: str
    arguments: Table = field(default_factory=dict, hash=False)


@dataclass(eq=False)
class Exchange:
    """An exchange with the bindings that begin at it."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Table = field(default_factory=dict)
    #: in the order of their creation; the values mean nothing
    bindings: dict[Binding, None] = field(default_factory=dict)

    @property
    def alternate(self) -> str | None:
        """The name of the exchange that gets what no binding of this one matches."""
        argument = self.arguments.get("alternate-exchange")
        return None if argument is None else str(argument.value)

    def check(self, binding: Binding) -> None:
        """Refuse a binding that this type of exchange cannot use."""
        match = binding.arguments.get("x-match") if self.type == "headers" else None
        if match is None or (match.type == "longstr" and match.value in _MATCHES):
            return
        if match.type == "longstr":
            problem = f'value <<"{match.value}">>; expected all, any, all-with-x, or any-with-x'
        else:
            value = str(match.value).lower()
            problem = f"type {match.type} (value {value}); expected longstr"
        raise AMQPError(406, f"Invalid x-match field {problem}")

    def matching(self, message: Message) -> list[Binding]:
        """Return the bindings that match a message."""
        if self.type == "fanout":
            return list(self.bindings)
        if self.type == "direct":
            keys = message.routing_keys
            return [each for each in self.bindings if each.routing_key in keys]
        if self.type == "topic":
            sent = [_words_of(key) for key in message.routing_keys]
            return [
                each
                for each in self.bindings
                if any(_topic_matches(_words_of(each.routing_key), words) for words in sent)
            ]
        headers = message.properties.headers
        return [each for each in self.bindings if _headers_match(each.arguments, headers)]


def check_not_default(name: str) -> None:
    """Refuse an operation on the default exchange."""
    if name == "":
        raise AMQPError(403, "operation not permitted on the default exchange")


def check_not_reserved(kind: str, name: str) -> None:
    """Refuse a name that only the broker may give to a new queue or exchange."""
    if name.startswith(RESERVED):
        raise AMQPError(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _words_of(key: str) -> list[str]:
    return key.split(".") if key else []  # an empty key has no word, and so no `*` matches it


def _topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Whether a binding key matches a routing key: `*` is one word, `#` any number of words."""
    # whether the pattern so far matches no word, the first word, the first two words, ...
    matches = [True, *(False for _ in words)]
    for part in pattern:
        if part == "#":
            matches = list(accumulate(matches, or_))
        else:
            pairs = zip(matches, words, strict=False)
            matches = [False, *(before and part in ("*", word) for before, word in pairs)]
    return matches[-1]


def _headers_match(arguments: Table, headers: Table) -> bool:
    match = arguments.get("x-match")
    how = match.value if match is not None else "all"
    with_x = how.endswith("-with-x")
    results = [
        _header_matches(wanted, headers.get(name))
        for name, wanted in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(results) if how.startswith("any") else all(results)


def _header_matches(wanted: Field, found: Field | None) -> bool:
    return found is not None and (wanted.type == "void" or wanted.same_value(found))
