"""Who talks to whom: exchanges, queues and services, from a class and from a broker."""

from __future__ import annotations

import dis
import enum
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

from neon_mq_connector.handlers.declared import Askable
from neon_mq_connector.handlers.registering import register_handlers
from neon_mq_connector.operations.management import ManagementAPI

_OURS = "neon-mq-connector "


class Kind(enum.IntEnum):
    """The kinds of nodes, in the order in which messages usually pass through them."""

    CLIENT = 0
    EXCHANGE = 1
    QUEUE = 2
    SERVICE = 3


class Node(NamedTuple):
    """An exchange, a queue, a service, or a client: a service that only asks."""

    kind: Kind
    name: str


class Edge(NamedTuple):
    """A path of messages, with its label."""

    source: Node
    target: Node
    label: str = ""


class Graph:
    """Nodes and the edges between them; adding one again does nothing.

    Attributes:
        edges: in the order in which they were added.
    """

    def __init__(self) -> None:
        self._nodes: dict[Node, None] = {}
        self.edges: dict[Edge, None] = {}

    @property
    def nodes(self) -> list[Node]:
        """The nodes, in the order of their kinds."""
        return sorted(self._nodes, key=lambda node: node.kind)

    def add(self, node: Node) -> Node:
        """Add a node."""
        self._nodes[node] = None
        return node

    def connect(self, source: Node, target: Node, label: str = "") -> None:
        """Add an edge, with its nodes."""
        self.edges[Edge(self.add(source), self.add(target), label)] = None


def add_service(graph: Graph, service: Any) -> None:
    """Add a service: what it consumes, and which handlers of others it asks.

    Those that it asks are found in the code of its methods, where they are written as typed calls:
    ``self.request(item, Shop.price)``.

    Args:
        graph: where it is added.
        service: an `MQConnector` or `AsyncMQConnector`; it is not run. The handlers of its class
            are registered.

    Raises:
        TypeError, ValueError: a handler cannot work, as it is declared.
    """
    register_handlers(service)
    kind = Kind.SERVICE if service.consumers else Kind.CLIENT
    node = graph.add(Node(kind, service.service_name))
    for name, thread in service.consumers.items():
        registration = thread.consumer.registration
        # a subscriber's queue has another name at each start
        title = f"{service.service_name}: {name}" if registration.delete_on_stop else ""
        queue = Node(Kind.QUEUE, title or registration.queue.name)
        graph.connect(queue, node)
        if registration.exchange is not None:
            exchange = Node(Kind.EXCHANGE, registration.exchange.name)
            for key in registration.routing_keys or ("",):
                graph.connect(exchange, queue, key)
    for handler in _asked(type(service)):
        graph.connect(node, Node(Kind.QUEUE, _queue_of(handler)), "asks")


def add_broker(graph: Graph, management: ManagementAPI, vhost: str) -> None:
    """Add what is on a broker: its exchanges, queues and bindings, and who consumes.

    Raises:
        ManagementError: the interface refuses, or does not answer.
    """
    for row in management.call("GET", "exchanges", vhost):
        if row["name"] and not row["name"].startswith("amq."):
            graph.add(Node(Kind.EXCHANGE, row["name"]))
    for row in management.call("GET", "queues", vhost):
        graph.add(Node(Kind.QUEUE, row["name"]))
    for row in management.call("GET", "bindings", vhost):
        if row["source"]:
            kind = Kind.QUEUE if row["destination_type"] == "queue" else Kind.EXCHANGE
            target = Node(kind, row["destination"])
            graph.connect(Node(Kind.EXCHANGE, row["source"]), target, row["routing_key"])
    connections = {
        row["name"]: row for row in management.call("GET", "vhosts", vhost, "connections")
    }
    for row in management.call("GET", "consumers", vhost):
        # an empty list where the channel has just gone
        connection = (row.get("channel_details") or {}).get("connection_name", "")
        service = _owner(connection, connections.get(connection, {}))
        graph.connect(Node(Kind.QUEUE, row["queue"]["name"]), Node(Kind.SERVICE, service))


def _owner(name: str, row: Mapping[str, Any]) -> str:
    """Return the service that a connection belongs to, or else the name of the connection."""
    properties = row.get("client_properties") or {}
    given = str(properties.get("connection_name") or row.get("user") or name)
    if str(properties.get("product_version", "")).startswith(_OURS):
        return given.rpartition(" ")[0]  # the last word is what the connection is for
    return given


def _queue_of(handler: Askable[Any, Any, ..., Any]) -> str:
    try:
        return handler.queue
    except ValueError:  # a placeholder is open: it is filled when it is asked
        return handler._target


def _asked(kind: type) -> Iterator[Askable[Any, Any, ..., Any]]:
    """Find the handlers of other classes that the methods of a class name."""
    for base in kind.__mro__:
        if base.__module__.startswith("neon_mq_connector."):
            continue
        for value in vars(base).values():
            function = inspect.unwrap(getattr(value, "function", value))
            code = getattr(function, "__code__", None)
            if code is not None:
                yield from _named_in(code, function.__globals__)


def _named_in(code: CodeType, names: Mapping[str, Any]) -> Iterator[Askable[Any, Any, ..., Any]]:
    owner: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            owner = names.get(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(owner, type):
            found = getattr(owner, str(instruction.argval), None)
            owner = None
            if isinstance(found, Askable):
                yield found
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named_in(constant, names)
