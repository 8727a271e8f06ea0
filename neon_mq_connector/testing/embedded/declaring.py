"""What a channel declares, binds and deletes: exchanges and queues."""

from __future__ import annotations

from collections.abc import Callable

from pika.amqp_object import Method as Reply
from pika.spec import Exchange as ExchangeClass
from pika.spec import Queue as QueueClass

from neon_mq_connector.testing.embedded.errors import AMQPError, not_found
from neon_mq_connector.testing.embedded.exchange import (
    Binding,
    Exchange,
    check_not_default,
    check_not_reserved,
)
from neon_mq_connector.testing.embedded.methods import Method
from neon_mq_connector.testing.embedded.publishing import REPLY_TO_NAME
from neon_mq_connector.testing.embedded.queue import Queue
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost


class Declaring:
    """The declaring side of a channel.

    Its operations return the reply for the client, or raise `AMQPError`.

    Args:
        vhost: the virtual host.
        user: whose rights count.
        owner: what exclusive queues belong to: the connection.
    """

    def __init__(self, vhost: VirtualHost, user: User, owner: object) -> None:
        self._vhost = vhost
        self._user = user
        self._owner = owner
        self._last_queue = ""

    def perform(self, method: Method) -> Reply | None:
        """Perform a method of these classes; return None for one of another class."""
        operation = _OPERATIONS.get(method.index)
        return None if operation is None else operation(self, method)

    def queue_name(self, queue: str) -> str:
        """Return the name of a queue; an empty name stands for the last one declared."""
        if queue or self._last_queue:
            return queue or self._last_queue
        raise AMQPError(404, "no previously declared queue")

    def readable_queue(self, queue: str) -> Queue:
        """Return a queue that the user may read from."""
        name = self.queue_name(queue)
        self._check("read", "queue", name)
        return self._vhost.queue(name, self._owner)

    # --- exchanges

    def _declare_exchange(self, method: Method) -> Reply:
        name = _without_line_ends(method.exchange)
        if method.passive:
            check_not_default(name)
            self._vhost.exchange(name)
        else:
            if name != "":
                self._check_declaration("exchange", name, "alternate-exchange", method)
            self._vhost.declare_exchange(
                Exchange(
                    name,
                    method.type,
                    durable=method.durable,
                    auto_delete=method.auto_delete,
                    internal=method.internal,
                    arguments=method.arguments,
                )
            )
        return ExchangeClass.DeclareOk()

    def _delete_exchange(self, method: Method) -> Reply:
        name = _without_line_ends(method.exchange)
        check_not_default(name)
        self._check("configure", "exchange", name)
        self._vhost.delete_exchange(name, if_unused=method.if_unused)
        return ExchangeClass.DeleteOk()

    def _bind_exchange(self, method: Method) -> Reply:
        self._vhost.bind(self._exchange_binding(method), self._owner)
        return ExchangeClass.BindOk()

    def _unbind_exchange(self, method: Method) -> Reply:
        self._vhost.unbind(self._exchange_binding(method), self._owner)
        return ExchangeClass.UnbindOk()

    # --- queues

    def _declare_queue(self, method: Method) -> Reply:
        name = _without_line_ends(method.queue)
        if name.startswith(REPLY_TO_NAME):
            return self._declare_reply_to(name)
        if method.passive:
            queue = self._vhost.queue(name, self._owner)
            queue.touch()
        else:
            if name:
                check_not_reserved("queue", name)
            else:
                name = self._vhost.new_queue_name(method.arguments)
            self._check_declaration("queue", name, "x-dead-letter-exchange", method)
            queue = self._vhost.declare_queue(
                name,
                durable=method.durable,
                auto_delete=method.auto_delete,
                owner=self._owner if method.exclusive else None,
                arguments=method.arguments,
            )
        self._last_queue = queue.name
        return QueueClass.DeclareOk(queue.name, len(queue.ready), queue.consumer_count)

    def _declare_reply_to(self, name: str) -> Reply:
        if name != REPLY_TO_NAME and name not in self._vhost.reply_consumers:
            raise not_found("queue", name, self._vhost.name)
        self._last_queue = name
        return QueueClass.DeclareOk(name, 0, 1)

    def _bind_queue(self, method: Method) -> Reply:
        self._vhost.bind(self._queue_binding(method), self._owner)
        return QueueClass.BindOk()

    def _unbind_queue(self, method: Method) -> Reply:
        self._vhost.unbind(self._queue_binding(method), self._owner)
        return QueueClass.UnbindOk()

    def _purge_queue(self, method: Method) -> Reply:
        count = self.readable_queue(method.queue).purge()
        return QueueClass.PurgeOk(count)

    def _delete_queue(self, method: Method) -> Reply:
        name = _without_line_ends(self.queue_name(method.queue))
        self._check("configure", "queue", name)
        count = self._vhost.delete_queue(
            name, self._owner, if_unused=method.if_unused, if_empty=method.if_empty
        )
        return QueueClass.DeleteOk(count)

    # --- inside

    def _check(self, right: str, kind: str, name: str) -> None:
        self._user.check(right, kind, name, self._vhost.name)

    def _check_declaration(self, kind: str, name: str, argument: str, method: Method) -> None:
        """Check that the user may declare something that sends messages on to an exchange."""
        self._check("configure", kind, name)
        target = method.arguments.get(argument)
        exists = name in (self._vhost.queues if kind == "queue" else self._vhost.exchanges)
        if not exists and target is not None and target.type == "longstr":
            self._check("read", kind, name)
            self._check("write", "exchange", target.value)

    def _queue_binding(self, method: Method) -> Binding:
        # both shortcuts stand for the last queue, the second only where the queue is not named
        name = self.queue_name(method.queue)
        key = method.routing_key or ("" if method.queue else self._last_queue)
        return self._binding("queue", name, method.exchange, key, method)

    def _exchange_binding(self, method: Method) -> Binding:
        key = method.routing_key
        return self._binding("exchange", method.destination, method.source, key, method)

    def _binding(
        self, kind: str, destination: str, source: str, routing_key: str, method: Method
    ) -> Binding:
        source = _without_line_ends(source)
        destination = _without_line_ends(destination)
        self._check("write", kind, destination)
        for name in (source, destination) if kind == "exchange" else (source,):
            check_not_default(name)
        self._check("read", "exchange", source)
        return Binding(source, kind, destination, routing_key, method.arguments)


def _without_line_ends(name: str) -> str:
    return name.replace("\n", "").replace("\r", "")


_OPERATIONS: dict[int, Callable[[Declaring, Method], Reply]] = {
    ExchangeClass.Declare.INDEX: Declaring._declare_exchange,
    ExchangeClass.Delete.INDEX: Declaring._delete_exchange,
    ExchangeClass.Bind.INDEX: Declaring._bind_exchange,
    ExchangeClass.Unbind.INDEX: Declaring._unbind_exchange,
    QueueClass.Declare.INDEX: Declaring._declare_queue,
    QueueClass.Bind.INDEX: Declaring._bind_queue,
    QueueClass.Unbind.INDEX: Declaring._unbind_queue,
    QueueClass.Purge.INDEX: Declaring._purge_queue,
    QueueClass.Delete.INDEX: Declaring._delete_queue,
}
