"""The embedded broker as tests use it: started, asked, and broken on purpose."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable
from typing import TypeVar

from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.history import Event
from neon_mq_connector.testing.embedded.management import EmbeddedManagement
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.server import Server
from neon_mq_connector.testing.embedded.users import Rights
from neon_mq_connector.testing.errors import PrivateBrokerError
from neon_mq_connector.testing.ports import LOOPBACK, free_ports, is_free
from neon_mq_connector.testing.running import BrokerAddress, OwnBroker

_RESOURCES = ("memory", "disk")

Answer = TypeVar("Answer")


class EmbeddedBroker(OwnBroker):
    """An AMQP 0-9-1 broker in a thread of this process; it speaks to any client of RabbitMQ.

    It holds everything in memory and listens on the loopback interface. Where RabbitMQ 4.0 is
    known to answer something, it answers the same, with the same texts. Durable things with
    persistent messages survive `stop`, `kill` and `start` of the same object; `close`, or the end
    of the `with` block, removes them. It is for tests and demonstrations: what has to survive the
    process belongs on RabbitMQ.

    Beside what `PrivateBroker` has, its clock can be moved (`advance`), faults happen when a test
    wants them to, and it tells what became of each message (`history`).

    Args:
        refuse_transient: refuse queues that are neither durable nor exclusive, as RabbitMQ 4.3 does
            by default.
        port: for AMQP; a free one when None.
        username: the administrator.
        password: of the administrator; made up when None.

    Examples:
        >>> with EmbeddedBroker() as broker:
        ...     connection = pika.BlockingConnection(pika.URLParameters(broker.url()))
    """

    def __init__(
        self,
        *,
        refuse_transient: bool = False,
        port: int | None = None,
        username: str = "neon",
        password: str | None = None,
    ) -> None:
        super().__init__(refuse_transient=refuse_transient)
        self._wanted_port = port
        self._username = username
        self._password = password
        #: these three under `_lock`; what is in the node belongs to the server's thread
        self._port: int | None = None
        self._node: Node | None = None
        self._server: Server | None = None
        #: ends the server when this object is forgotten
        self._finalizer: weakref.finalize[..., EmbeddedBroker] | None = None

    # --- the broker's life

    def start(self, timeout: float = 10.0) -> None:
        """Start the broker and return when it takes connections; nothing if it runs.

        After `stop` or `kill` it comes back on the same port with what is durable.

        Args:
            timeout: seconds; it takes some thousandths.

        Raises:
            PrivateBrokerError: the port cannot be had.
        """
        with self._lock:
            if self.running:
                return
            self._port = self._port or self._wanted_port or free_ports(1)[0]
            self._password = self._password or secrets.token_urlsafe(16)
            self._node = self._node or self._new_node(self._password)
            server = Server(self._node, LOOPBACK, self._port)
            try:
                server.start()
            except OSError as error:
                in_use = "" if is_free(self._port) else " is in use: name another one"
                raise PrivateBrokerError(
                    f"port {self._port} on {LOOPBACK}{in_use} ({error})"
                ) from error
            self._server = server
            self._finalizer = weakref.finalize(self, server.give_up)

    def stop(self, timeout: float = 10.0) -> None:
        """End the broker in good order and keep what is durable for `start`; idempotent.

        Args:
            timeout: seconds.
        """
        reason = "broker forced connection closure with reason 'shutdown'"
        self._end(reason, timeout)

    def kill(self) -> None:
        """Reset all connections without a word, as a crash does; keep what is durable."""
        self._end(None, 10.0)

    def close(self) -> None:
        """End the broker for good and forget all it had; idempotent."""
        with self._lock:
            self.stop()
            self._node = self._port = None

    @property
    def running(self) -> bool:
        """Whether the broker runs."""
        return self._server is not None and self._server.running

    # --- where it is

    @property
    def address(self) -> BrokerAddress:
        """Return where it listens and who may do everything; the same for this object's life."""
        if self._port is None or self._password is None:
            raise self._not_started()
        return BrokerAddress(LOOPBACK, self._port, 0, self._username, self._password)

    @property
    def management(self) -> EmbeddedManagement:
        """Return a management client; its figures are never late."""
        if self._node is None:
            raise self._not_started()
        return EmbeddedManagement(self._node, self._username, self._running_server)

    # --- what has happened

    def history(self, queue: str, vhost: str = "/") -> list[Event]:
        """Return what happened to the messages of a queue, oldest first.

        The last 100,000 events of the broker are kept, fewer where the messages are large. A queue
        that was deleted, or was there before a restart, is remembered too.
        """
        return self._call(lambda server: server.node.history.of(vhost, queue))

    # --- time

    def advance(self, seconds: float) -> None:
        """Move the broker's clock.

        Messages whose time is over expire now, unused queues go, and channels whose clients have
        held a message for too long are closed, as they would have been after that time. Heartbeats
        go by the real clock.

        Args:
            seconds: by how much, a year at most.

        Raises:
            ValueError: it is less than 0, or more than that.
        """

        def advance(server: Server) -> None:
            server.node.clock.advance(seconds)
            server.check_timeouts()

        self._call(advance)

    # --- faults

    def block(self, resource: str = "memory") -> None:
        """Raise an alarm: publishers are not read from any more, until `unblock`.

        In real life: the node's memory is over its high watermark, or its disk is nearly full. A
        client notices at its next publish; it gets `connection.blocked`.

        Args:
            resource: `memory` or `disk`.
        """
        if resource not in _RESOURCES:
            raise ValueError(f"{resource!r} is no alarm: use one of {', '.join(_RESOURCES)}")
        self._call(lambda server: server.node.faults.alarms.add(resource))

    def unblock(self) -> None:
        """End all alarms; blocked connections go on where they were.

        In real life: consumers have emptied the queues, or an operator has freed disk space.
        """

        self._call(lambda server: server.node.faults.alarms.clear())

    def close_connections(self, vhost: str | None = None) -> None:
        """Close connections from the broker's side: clients are told 320.

        In real life: an operator closes them, or the node is drained before an upgrade.

        Args:
            vhost: only those of this virtual host.
        """

        def close(server: Server) -> None:
            for each in server.connections(vhost):
                each.fail(AMQPError(320, "Closed via management plugin"))

        self._call(close)

    def drop_connections(self, vhost: str | None = None) -> None:
        """Reset connections without a word.

        In real life: the node crashes, a load balancer gives up an idle connection, or a cable is
        pulled. What the broker had not confirmed may or may not have arrived.

        Args:
            vhost: only those of this virtual host.
        """

        def drop(server: Server) -> None:
            for each in server.connections(vhost):
                server.reset(each)

        self._call(drop)

    def refuse_connections(self) -> None:
        """Refuse new connections until `accept_connections`; open ones stay.

        In real life: the listener is down, the node is in maintenance mode, or it is starting.
        """
        self._call(lambda server: server.refuse())

    def accept_connections(self) -> None:
        """Take new connections again."""
        self._running_server().accept()

    def lose_confirms(self, count: int = 1) -> None:
        """Lose the next confirms to publishers; their messages are taken all the same.

        In real life: the connection breaks after the broker has a message and before the publisher
        knows, the case in which sending again makes a duplicate.

        Args:
            count: how many.
        """
        self._call(lambda server: server.node.faults.counts.update({"lost confirm": count}))

    def deliver_twice(self, count: int = 1) -> None:
        """Deliver the next messages to consumers twice, the second time as redelivered.

        In real life: the connection breaks after a consumer has done its work and before its ack
        arrives.

        Args:
            count: how many messages.
        """
        self._call(lambda server: server.node.faults.counts.update({"repetition": count}))

    def delay(self, seconds: float) -> None:
        """Send everything so much later than usual; 0 ends that.

        In real life: a distant broker, a busy node, a full network.

        Args:
            seconds: by the real clock.
        """

        def delay(server: Server) -> None:
            server.node.faults.delay = seconds
            server.send_delayed()

        self._call(delay)

    def end_faults(self) -> None:
        """End all faults, those included that were asked for and have not happened yet."""

        def end(server: Server) -> None:
            server.node.faults.clear()
            server.send_delayed()

        self._call(end)
        self.accept_connections()

    # --- inside

    def _new_node(self, password: str) -> Node:
        node = Node(refuse_transient=self.refuse_transient)
        node.add_vhost("/")
        node.add_user(self._username, password, tags="administrator")
        node.permit(self._username, "/", Rights())
        return node

    def _end(self, reason: str | None, timeout: float) -> None:
        with self._lock:
            if self._server is not None:
                self._server.stop(reason=reason, timeout=timeout)
                self._server = None
            if self._finalizer is not None:
                self._finalizer.detach()

    def _call(self, action: Callable[[Server], Answer]) -> Answer:
        server = self._running_server()
        return server.call(lambda: action(server))

    def _running_server(self) -> Server:
        server = self._server
        if server is None or not server.running:
            raise self._not_started()
        return server

    @staticmethod
    def _not_started() -> PrivateBrokerError:
        return PrivateBrokerError("the embedded broker does not run: call start() first")
