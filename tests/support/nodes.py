"""The brokers of a test session: one that permits transient queues, and one that refuses them.

The processes of a session (pytest-xdist) share both. The nodes belong to the process that hands out
the tests; it starts one when a worker first asks for it, and tells where it is.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from multiprocessing.managers import BaseManager
from typing import Any, cast

from neon_mq_connector.testing import EmbeddedBroker, PrivateBroker
from neon_mq_connector.testing.ports import free_ports
from neon_mq_connector.testing.running import BrokerAddress

RABBITMQ = "rabbitmq"
EMBEDDED = "embedded"
KINDS = (RABBITMQ, EMBEDDED)

PERMISSIVE = "permissive"
REFUSING = "refusing"
MODES = (PERMISSIVE, REFUSING)

Ticket = tuple[Any, str]


def new_broker(kind: str, **options: object) -> PrivateBroker:
    """Make a broker of a kind; an embedded one has the methods of a private one."""
    made = EmbeddedBroker if kind == EMBEDDED else PrivateBroker
    return cast(PrivateBroker, made(**options))  # type: ignore[arg-type]


class BrokerNodes:
    """Nodes of this process by mode, started when asked for and again when a test left one dead.

    Args:
        kind: of the brokers.
    """

    def __init__(self, kind: str = RABBITMQ) -> None:
        self._kind = kind
        self._nodes: dict[str, PrivateBroker] = {}
        self._lock = threading.Lock()

    def running(self, mode: str) -> PrivateBroker:
        """Return the node of a mode, up."""
        if mode not in MODES:
            raise ValueError(f"{mode!r} is no mode of a broker: use one of {', '.join(MODES)}")
        with self._lock:
            if mode not in self._nodes:
                self._nodes[mode] = new_broker(self._kind, refuse_transient=mode == REFUSING)
            node = self._nodes[mode]
        node.start()
        return node

    def start_all_soon(self) -> None:
        """Start the nodes of all modes in the background; who needs one is told if it fails."""

        def start(mode: str) -> None:
            with contextlib.suppress(Exception):
                self.running(mode)

        for mode in MODES:
            threading.Thread(target=start, args=(mode,), name=f"starts-{mode}").start()

    def address(self, mode: str) -> BrokerAddress:
        """Return where the node of a mode listens, having started it."""
        return self.running(mode).address

    def close(self) -> None:
        """End all nodes."""
        with self._lock:
            for node in self._nodes.values():
                node.close()
            self._nodes.clear()


class _Manager(BaseManager):
    """Tell other processes where nodes of this one are."""


def serve_addresses(nodes: BrokerNodes) -> Ticket:
    """Tell other processes where nodes are, and return what `SharedNodes` needs to ask."""
    _Manager.register("address", nodes.address)
    key = secrets.token_bytes(16)
    server = _Manager(("127.0.0.1", 0), authkey=key).get_server()
    threading.Thread(target=server.serve_forever, name="node-server", daemon=True).start()
    return server.address, key.hex()


class SharedNodes:
    """The nodes of the process that started this one.

    Args:
        ticket: from that process's `serve_addresses`.
    """

    def __init__(self, ticket: Ticket) -> None:
        address, key = ticket
        _Manager.register("address")
        self._manager: Any = _Manager(tuple(address), authkey=bytes.fromhex(key))

    def address(self, mode: str) -> BrokerAddress:
        """Return where the node of a mode listens."""
        self._manager.connect()
        address: BrokerAddress = self._manager.address(mode)._getvalue()
        return address

    def close(self) -> None:
        """Leave the nodes to their owner."""


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
