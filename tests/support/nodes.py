"""The brokers of a test session: one that permits transient queues, and one that refuses them."""

from __future__ import annotations

from neon_mq_connector.testing import PrivateBroker
from neon_mq_connector.testing.ports import free_ports

PERMISSIVE = "permissive"
REFUSING = "refusing"
MODES = (PERMISSIVE, REFUSING)


class BrokerNodes:
    """Nodes by mode, started when first asked for and again when a test has left one dead."""

    def __init__(self) -> None:
        self._nodes: dict[str, PrivateBroker] = {}

    def running(self, mode: str) -> PrivateBroker:
        """Return the node of a mode, up."""
        if mode not in MODES:
            raise ValueError(f"{mode!r} is no mode of a broker: use one of {', '.join(MODES)}")
        node = self._nodes.setdefault(mode, PrivateBroker(refuse_transient=mode == REFUSING))
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
