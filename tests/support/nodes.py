"""The brokers of a test session: one that permits transient queues, and one that refuses them.

The processes of a session (pytest-xdist) share both. The nodes belong to the process that hands out
the tests; it starts one when a worker first asks for it, and tells where it is.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
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


class NodeServer:
    """Tell other processes where nodes of this one are.

    Attributes:
        ticket: what `SharedNodes` needs to get here.
    """

    def __init__(self, nodes: BrokerNodes) -> None:
        self._nodes = nodes
        key = secrets.token_bytes(16)
        self._listener = Listener(("127.0.0.1", 0), authkey=key)
        self.ticket = (self._listener.address, key.hex())
        threading.Thread(target=self._accept, name="node-server", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError):
                continue
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection[Any, Any]) -> None:
        with connection:
            try:
                connection.send(self._nodes.address(connection.recv()))
            except Exception as error:
                connection.send(f"{type(error).__name__}: {error}")


class SharedNodes:
    """The nodes of the process that started this one.

    Args:
        ticket: from that process's `NodeServer`.
    """

    def __init__(self, ticket: Any) -> None:
        address, key = ticket
        self._address = tuple(address)
        self._key = bytes.fromhex(key)

    def address(self, mode: str) -> BrokerAddress:
        """Return where the node of a mode listens."""
        with Client(self._address, authkey=self._key) as connection:
            connection.send(mode)
            answer = connection.recv()
        assert isinstance(answer, BrokerAddress), answer
        return answer

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
