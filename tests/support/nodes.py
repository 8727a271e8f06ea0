"""The brokers of a test session: one that permits transient queues, and one that refuses them."""

from __future__ import annotations

from typing import cast

from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker
from neon_mq_connector.testing.ports import free_ports

RABBITMQ = "rabbitmq"
EMBEDDED = "embedded"
KINDS = (RABBITMQ, EMBEDDED)

PERMISSIVE = "permissive"
REFUSING = "refusing"
MODES = (PERMISSIVE, REFUSING)


def new_broker(kind: str, **options: object) -> PrivateBroker:
    """Make a broker of a kind; an embedded one has the methods of a private one."""
    made = EmbeddedBroker if kind == EMBEDDED else PrivateBroker
    return cast(PrivateBroker, made(**options))  # type: ignore[arg-type]


class BrokerNodes:
    """Nodes by mode, started when first asked for and again when a test has left one dead.

    Args:
        kind: of the brokers.
    """

    def __init__(self, kind: str = RABBITMQ) -> None:
        self._kind = kind
        self._nodes: dict[str, PrivateBroker] = {}

    def running(self, mode: str) -> PrivateBroker:
        """Return the node of a mode, up."""
        if mode not in MODES:
            raise ValueError(f"{mode!r} is no mode of a broker: use one of {', '.join(MODES)}")
        if mode not in self._nodes:
            self._nodes[mode] = new_broker(self._kind, refuse_transient=mode == REFUSING)
        node = self._nodes[mode]
        node.start()
        return node

    def close(self) -> None:
        """End all nodes."""
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()


def crash(node: PrivateBroker) -> None:
    """End a node as a crash does, a while after the last queue was declared on it.

    RabbitMQ (4.0, Mnesia) may say that a queue is declared before that is on disk. A crash in that
    moment takes the queue along, with messages that were confirmed; no client can help it. So what
    was declared is brought to disk first.
    """
    node.rabbitmqctl("eval", "mnesia:sync_log().")
    node.kill()


def free_port() -> int:
    """Return a port on which nothing listens."""
    return free_ports(1)[0]
