"""A virtual host: its exchanges, queues and bindings, and the way of a message through them."""

from __future__ import annotations

from collections.abc import Callable

from neon_mq_connector.testing.embedded.arguments import (
    QUORUM,
    check_queue_arguments,
    check_same,
    check_same_argument,
    check_same_arguments,
    queue_type,
)
from neon_mq_connector.testing.embedded.errors import AMQPError, describe, not_found
from neon_mq_connector.testing.embedded.exchange import PREDECLARED, TYPES, Binding, Exchange
from neon_mq_connector.testing.embedded.host import DeadLetter, Host, Surroundings
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.names import (
    RESERVED,
    TRACE_EXCHANGE,
    check_not_default,
    check_not_reserved,
    unique_name,
)
from neon_mq_connector.testing.embedded.queue import Queue, locked
from neon_mq_connector.testing.embedded.quorum import QuorumQueue
from neon_mq_connector.testing.embedded.routing import Router
from neon_mq_connector.testing.embedded.tables import Table

_REPLY_TO = "amq.rabbitmq.reply-to."
_TRANSIENT_REFUSED = (
    "Feature `transient_nonexcl_queues` is deprecated.\n"
    "By default, this feature is not permitted anymore.\n"
    "The feature will be removed from a future RabbitMQ version, regardless of the configuration."
)


class VirtualHost(Host):
    """A virtual host. Owned by the broker's thread.

    Args:
        name: its name.
        shared: what it shares with the others.

    Attributes:
        tracing: whether each message that is published is traced.
    """

    def __init__(self, name: str, shared: Surroundings) -> None:
        super().__init__(name, shared)
        self.tracing = False
        self.queues: dict[str, Queue] = {}
        self.exchanges = {
            name: Exchange(name, type, internal=name == TRACE_EXCHANGE)
            for name, type in PREDECLARED.items()
        }
        #: the clients that wait for answers at a direct reply-to address
        self.reply_outlets: dict[str, Callable[[Message], None]] = {}
        self._refuse_transient = shared.refuse_transient
        self.router = Router(self.exchanges, self.queues)

    # --- exchanges

    def exchange(self, name: str) -> Exchange:
        """Return an exchange.

        Raises:
            AMQPError: 404.
        """
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found(describe("exchange", name, self.name))
        return exchange

    def declare_exchange(
        self,
        name: str,
        type: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
    ) -> None:
        """Make an exchange, or check that the one that is there is like that.

        Raises:
            AMQPError: the name or the type is not allowed, or it is there and different.
        """
        if type not in TYPES:
            raise AMQPError(406, f"unknown exchange type '{type}'")
        check_not_default(name)
        what = describe("exchange", name, self.name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            check_not_reserved("exchange", name)
            _check_name_argument(what, "alternate-exchange", arguments)
            self.exchanges[name] = Exchange(
                name,
                type,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
            self.router.forget()
            return
        check_same(what, "type", exchange.type, type)
        check_same(what, "durable", exchange.durable, durable)
        check_same(what, "auto_delete", exchange.auto_delete, auto_delete)
        check_same(what, "internal", exchange.internal, internal)
        alternate = "alternate-exchange"
        check_same_argument(
            what, alternate, exchange.arguments.get(alternate), arguments.get(alternate)
        )

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with the bindings from and to it; a missing one is fine.

        Raises:
            AMQPError: it may not be deleted, or is in use.
        """
        check_not_default(name)
        what = describe("exchange", name, self.name)
        if name.startswith(RESERVED):
            raise AMQPError(403, f"deletion of system {what} not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise AMQPError(406, f"{what} in use")
        del self.exchanges[name]
        self._unbind_destination("exchange", name)
        self.router.forget()

    # --- queues

    def queue(self, name: str, connection: object) -> Queue:
        """Return a queue that a connection may use.

        Raises:
            AMQPError: 404, or 405 when it belongs to another connection.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise not_found(describe("queue", name, self.name))
        queue.check_access(connection)
        return queue

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: Table,
    ) -> Queue:
        """Make a queue, or check that the one that is there is like that.

        Args:
            name: its name, which is not reserved; see `new_queue_name`.
            durable: whether it survives a restart.
            auto_delete: whether it goes with its last consumer.
            owner: the connection that it is to belong to, if it is to be exclusive.
            arguments: its arguments.

        Raises:
            AMQPError: an argument is not allowed, or it is there and different.
        """
        durable = durable and owner is None
        what = describe("queue", name, self.name)
        queue = self.queues.get(name)
        if queue is not None:
            if queue.owner is not owner:
                raise locked(queue)
            check_same(what, "durable", queue.durable, durable)
            check_same(what, "auto_delete", queue.auto_delete, auto_delete)
            check_same_arguments(what, queue.type, queue.arguments, arguments)
            queue.touch()
            return queue
        _check_name_argument(what, "x-dead-letter-exchange", arguments)
        kind = check_queue_arguments(what, arguments)
        if self._refuse_transient and not durable and owner is None:
            raise AMQPError(541, _TRANSIENT_REFUSED)
        if kind == QUORUM:
            _check_quorum(what, durable, auto_delete, owner)
        queue = (QuorumQueue if kind == QUORUM else Queue)(
            self,
            name,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            arguments=arguments,
        )
        self.queues[name] = queue
        self.router.forget()
        return queue

    def new_queue_name(self, arguments: Table) -> str:
        """Make up a name for a queue that was declared without one.

        Raises:
            AMQPError: 406, queues of that type must have one.
        """
        kind = queue_type(arguments)
        if kind == QUORUM:
            raise AMQPError(
                406, f"Cannot declare a server-named queue for type rabbit_{kind}_queue"
            )
        return unique_name("amq.gen")

    def delete_queue(
        self, name: str, connection: object, *, if_unused: bool = False, if_empty: bool = False
    ) -> int:
        """Delete a queue; a missing one is fine.

        Returns:
            How many messages were in it.

        Raises:
            AMQPError: it belongs to another connection, is in use, or is not empty.
        """
        queue = self.queues.get(name)
        if queue is None:
            return 0
        queue.check_access(connection)
        what = queue.describe()
        if queue.type == QUORUM and (if_unused or if_empty):
            flag = "if-unused" if if_unused else "if-empty"
            raise AMQPError(
                540,
                f"cannot delete {what}. queue.delete operations with {flag} flag set are not "
                "supported by quorum queues",
            )
        if if_empty and len(queue.ready):
            raise AMQPError(406, f"{what} not empty")
        if if_unused and len(queue.turns):
            raise AMQPError(406, f"{what} in use")
        count = len(queue.ready)
        self.remove_queue(queue.name)
        return count

    def remove_queue(self, name: str) -> None:
        """Remove a queue with its bindings; a missing one is fine."""
        queue = self.queues.pop(name, None)
        if queue is not None:
            self.router.forget()
            queue.close()
            self._unbind_destination("queue", name)

    def remove_queues_of(self, connection: object) -> None:
        """Remove the exclusive queues of a connection that ends."""
        for queue in [each for each in self.queues.values() if each.owner is connection]:
            self.remove_queue(queue.name)

    # --- bindings

    def bind(self, binding: Binding, connection: object) -> None:
        """Bind a queue or an exchange to an exchange; a binding that is there is fine.

        Raises:
            AMQPError: 404, 405 or 406.
        """
        source = self._ends_of(binding, connection)
        source.check(binding)
        source.bindings.setdefault(binding)
        self.router.forget()

    def unbind(self, binding: Binding, connection: object) -> None:
        """Remove a binding; a missing one is fine.

        Raises:
            AMQPError: 405, the queue belongs to another connection.
        """
        source = self.exchanges.get(binding.source)
        if source is None or binding not in source.bindings:
            return
        if binding.kind == "queue" and binding.destination in self.queues:
            self.queues[binding.destination].check_access(connection)
        self._remove_binding(source, binding)

    # --- messages

    def answer(self, message: Message) -> None:
        """Deliver a message published to direct reply-to addresses to those who wait there."""
        for key in message.routing_keys:
            if key.startswith(_REPLY_TO) and key in self.reply_outlets:
                self.reply_outlets[key](message)

    def publish(self, message: Message, queues: list[Queue]) -> bool:
        """Give a message to queues; tell whether all took it."""
        if len(queues) == 1:
            return queues[0].publish(message)
        with self.letters_last():
            taken = [queue.publish(message) for queue in queues if not queue.deleted]
        return all(taken)

    # --- the virtual host's life

    def recover(self) -> None:
        """Keep what survives a restart of the broker."""
        for queue in list(self.queues.values()):
            if not queue.durable:
                self.remove_queue(queue.name)
        for exchange in list(self.exchanges.values()):
            if not exchange.durable:
                self.exchanges.pop(exchange.name, None)
                self._unbind_destination("exchange", exchange.name)
        self.router.forget()
        self.reply_outlets.clear()
        for queue in list(self.queues.values()):
            queue.recover()

    def close(self) -> None:
        """Remove all queues."""
        for queue in list(self.queues.values()):
            self.remove_queue(queue.name)

    # --- inside

    def _ends_of(self, binding: Binding, connection: object) -> Exchange:
        """Check that both ends of a binding are there; return its source."""
        source = self.exchange(binding.source)
        if binding.kind == "exchange":
            self.exchange(binding.destination)
        else:
            self.queue(binding.destination, connection)
        return source

    def _remove_binding(self, source: Exchange, binding: Binding) -> None:
        del source.bindings[binding]
        self.router.forget()
        if source.auto_delete and not source.bindings and source.name in self.exchanges:
            del self.exchanges[source.name]
            self._unbind_destination("exchange", source.name)

    def _unbind_destination(self, kind: str, name: str) -> None:
        for source in list(self.exchanges.values()):
            for binding in list(source.bindings):
                if binding.kind == kind and binding.destination == name:
                    self._remove_binding(source, binding)

    def _send_letter(self, letter: DeadLetter) -> None:
        target = self.exchanges.get(letter.exchange)
        if target is None:
            return
        queue, message, reason, exchange, routing_key = letter
        sent = message.dead_lettered(queue, reason, exchange, routing_key, int(self.clock.wall()))
        for each in self.router.route(target, sent):
            if reason == "rejected" or not sent.died_before_in(each.name):
                each.publish(sent)


def _check_name_argument(what: str, argument: str, arguments: Table) -> None:
    field = arguments.get(argument)
    if field is not None and field.type != "longstr":
        raise AMQPError(406, f"invalid type '{field.type}' for arg '{argument}' in {what}")


def _check_quorum(what: str, durable: bool, auto_delete: bool, owner: object | None) -> None:
    for name, is_wrong in (
        ("auto-delete", auto_delete),
        ("exclusive-owner", owner is not None),
        ("non-durable", not durable),
    ):
        if is_wrong:
            raise AMQPError(406, f"invalid property '{name}' for {what}")
