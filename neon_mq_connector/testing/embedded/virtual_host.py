"""A virtual host: its exchanges, queues and bindings, and the way of a message through them."""

from __future__ import annotations

import base64
import secrets
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
from neon_mq_connector.testing.embedded.exchange import (
    PREDECLARED,
    RESERVED,
    TRACE_EXCHANGE,
    TYPES,
    Binding,
    Exchange,
    check_not_default,
    check_not_reserved,
)
from neon_mq_connector.testing.embedded.host import Host, NodeState
from neon_mq_connector.testing.embedded.message import Message
from neon_mq_connector.testing.embedded.queue import Queue, locked
from neon_mq_connector.testing.embedded.quorum import QuorumQueue
from neon_mq_connector.testing.embedded.tables import Table

_REPLY_TO = "amq.rabbitmq.reply-to."
_TRANSIENT_REFUSED = (
    "Feature `transient_nonexcl_queues` is deprecated.\n"
    "By default, this feature is not permitted anymore.\n"
    "The feature will be removed from a future RabbitMQ version, regardless of the configuration."
)


class VirtualHost(Host):
    """A virtual host. Owned by the broker's thread.

    Its methods raise `AMQPError` where RabbitMQ refuses what a client asks for.

    Args:
        name: its name.
        shared: what it shares with the others.

    Attributes:
        tracing: whether each message that is published is traced.
    """

    def __init__(self, name: str, shared: NodeState) -> None:
        super().__init__(name, shared)
        self.tracing = False
        self.queues: dict[str, Queue] = {}
        self.exchanges = {
            name: Exchange(name, type, internal=name == TRACE_EXCHANGE)
            for name, type in PREDECLARED.items()
        }
        #: the clients that wait for answers at a direct reply-to address
        self.reply_consumers: dict[str, Callable[[Message], None]] = {}

    # --- exchanges

    def exchange(self, name: str) -> Exchange:
        """Return an exchange."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found("exchange", name, self.name)
        return exchange

    def declare_exchange(self, asked: Exchange) -> None:
        """Add an exchange, or check that the one that is there is like that."""
        name, arguments = asked.name, asked.arguments
        if asked.type not in TYPES:
            raise AMQPError(406, f"unknown exchange type '{asked.type}'")
        check_not_default(name)
        what = describe("exchange", name, self.name)
        exchange = self.exchanges.get(name)
        alternate = "alternate-exchange"
        if exchange is None:
            check_not_reserved("exchange", name)
            _check_name_argument(what, alternate, arguments)
            self.exchanges[name] = asked
            return
        for each in ("type", "durable", "auto_delete", "internal"):
            check_same(what, each, getattr(exchange, each), getattr(asked, each))
        check_same_argument(
            what, alternate, exchange.arguments.get(alternate), arguments.get(alternate)
        )

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with the bindings from and to it; a missing one is fine."""
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

    # --- queues

    def queue(self, name: str, connection: object) -> Queue:
        """Return a queue that a connection may use."""
        queue = self.queues.get(name)
        if queue is None:
            raise not_found("queue", name, self.name)
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
        if self.shared.refuse_transient and not durable and owner is None:
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
        return queue

    def new_queue_name(self, arguments: Table) -> str:
        """Make up a name for a queue that was declared without one."""
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
        if if_unused and len(queue.consumers):
            raise AMQPError(406, f"{what} in use")
        count = len(queue.ready)
        self.remove_queue(queue.name)
        return count

    def remove_queue(self, name: str) -> None:
        """Remove a queue with its bindings; a missing one is fine."""
        queue = self.queues.pop(name, None)
        if queue is not None:
            queue.close()
            self._unbind_destination("queue", name)

    def remove_queues_of(self, connection: object) -> None:
        """Remove the exclusive queues of a connection that ends."""
        for queue in [each for each in self.queues.values() if each.owner is connection]:
            self.remove_queue(queue.name)

    # --- bindings

    def bind(self, binding: Binding, connection: object) -> None:
        """Bind a queue or an exchange to an exchange; a binding that is there is fine."""
        source = self.exchange(binding.source)
        if binding.kind == "exchange":
            self.exchange(binding.destination)
        else:
            self.queue(binding.destination, connection)
        source.check(binding)
        source.bindings.setdefault(binding)

    def unbind(self, binding: Binding, connection: object) -> None:
        """Remove a binding; a missing one is fine."""
        source = self.exchanges.get(binding.source)
        if source is None or binding not in source.bindings:
            return
        if binding.kind == "queue" and binding.destination in self.queues:
            self.queues[binding.destination].check_access(connection)
        self._remove_binding(source, binding)

    # --- messages

    def route(self, exchange: Exchange, message: Message) -> list[Queue]:
        """Return the queues that a message published to an exchange gets to, each once."""
        found: dict[Queue, None] = {}
        seen = {exchange.name}
        work = [exchange]
        while work:
            current = work.pop()
            names: list[str] = []
            if current.name == "":  # each queue is bound to it by its name
                targets = sorted(set(message.routing_keys))
            else:
                bindings = current.matching(message)
                targets = [each.destination for each in bindings if each.kind == "queue"]
                names = [each.destination for each in bindings if each.kind == "exchange"]
                if not bindings and current.alternate is not None:
                    names.append(current.alternate)
            found.update(
                dict.fromkeys(self.queues[each] for each in targets if each in self.queues)
            )
            for name in names:
                if name in self.exchanges and name not in seen:
                    seen.add(name)
                    work.append(self.exchanges[name])
        return list(found)

    def answer(self, message: Message) -> None:
        """Deliver a message to the consumers of direct reply-to addresses."""
        for key in message.routing_keys:
            if key.startswith(_REPLY_TO) and key in self.reply_consumers:
                self.reply_consumers[key](message)

    def publish(self, message: Message, queues: list[Queue]) -> bool:
        """Publish a message to queues; return whether all took it."""
        if len(queues) == 1:
            return queues[0].publish(message)
        with self.dead_letters_last():
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
        self.reply_consumers.clear()
        for queue in list(self.queues.values()):
            queue.recover()

    def close(self) -> None:
        """Remove all queues."""
        for queue in list(self.queues.values()):
            self.remove_queue(queue.name)

    # --- inside

    def _remove_binding(self, source: Exchange, binding: Binding) -> None:
        del source.bindings[binding]
        if source.auto_delete and not source.bindings and source.name in self.exchanges:
            del self.exchanges[source.name]
            self._unbind_destination("exchange", source.name)

    def _unbind_destination(self, kind: str, name: str) -> None:
        for source in list(self.exchanges.values()):
            for binding in list(source.bindings):
                if binding.kind == kind and binding.destination == name:
                    self._remove_binding(source, binding)

    def _publish_dead_letter(self, letter: Message) -> None:
        target = self.exchanges.get(letter.exchange)
        for queue in [] if target is None else self.route(target, letter):
            if not letter.is_cycle_to(queue.name):
                queue.publish(letter)


def unique_name(prefix: str) -> str:
    """Return a name that nobody can guess."""
    return f"{prefix}-{base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"


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
