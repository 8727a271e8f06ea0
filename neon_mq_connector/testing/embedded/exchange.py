"""Exchanges, bindings, and which bindings match a message."""

from __future__ import annotations

from dataclasses import dataclass, field

from neon_mq_connector.testing.embedded.errors import AMQPError, describe
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.names import TRACE_EXCHANGE
from neon_mq_connector.testing.embedded.tables import Field, Table

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
    """A way from an exchange to a queue or to another exchange.

    Attributes:
        source: the name of the exchange.
        kind: of the destination: `queue` or `exchange`.
        destination: its name.
        routing_key: the binding key.
        arguments: of the binding, as pairs in the order of their names.
    """

    source: str
    kind: str
    destination: str
    routing_key: str
    arguments: tuple[tuple[str, str], ...] = ()
    table: Table = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls, source: str, kind: str, destination: str, routing_key: str, arguments: Table
    ) -> Binding:
        """Return a binding; arguments are kept as text too, for tables have no hash."""
        pairs = tuple((key, repr(arguments[key])) for key in sorted(arguments))
        return cls(source, kind, destination, routing_key, pairs, dict(arguments))


class Exchange:
    """An exchange with the bindings that begin at it."""

    def __init__(
        self,
        name: str,
        type: str,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments or {}
        #: in the order of their creation; the values mean nothing
        self.bindings: dict[Binding, None] = {}

    @property
    def alternate(self) -> str | None:
        """The name of the exchange that gets what no binding of this one matches."""
        argument = self.arguments.get("alternate-exchange")
        return None if argument is None else str(argument.value)

    def check(self, binding: Binding) -> None:
        """Refuse a binding that this type of exchange cannot use.

        Raises:
            AMQPError: 406.
        """
        match = binding.table.get("x-match") if self.type == "headers" else None
        if match is None or (match.type == "longstr" and match.value in _MATCHES):
            return
        value = f'<<"{match.value}">>' if match.type == "longstr" else str(match.value).lower()
        if match.type == "longstr":
            problem = f"value {value}; expected all, any, all-with-x, or any-with-x"
        else:
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
            words = [key.split(".") for key in message.routing_keys]
            return [
                each
                for each in self.bindings
                if any(_topic_matches(each.routing_key.split("."), key) for key in words)
            ]
        headers = message.properties.headers
        return [each for each in self.bindings if _headers_match(each.table, headers)]

    def describe(self, vhost: str) -> str:
        """Return how errors name the exchange."""
        return describe("exchange", self.name, vhost)


def _topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Whether a binding key matches a routing key: `*` is one word, `#` any number of words.

    The positions of the pattern that can be reached are followed word by word, so that the time
    grows with the product of both lengths, however many `#` there are.
    """
    reached = _past_hashes(pattern, {0})
    for word in words:
        following = set()
        for position in reached:
            if position < len(pattern):
                part = pattern[position]
                if part == "#":
                    following.add(position)
                elif part in ("*", word):
                    following.add(position + 1)
        reached = _past_hashes(pattern, following)
        if not reached:
            return False
    return len(pattern) in reached


def _past_hashes(pattern: list[str], positions: set[int]) -> set[int]:
    reached = set(positions)
    for position in positions:
        while position < len(pattern) and pattern[position] == "#":
            position += 1
            reached.add(position)
    return reached


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
