"""A channel: its methods, in terms of the virtual host."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Protocol

from pika.amqp_object import Method as Reply
from pika.spec import Basic, Confirm, Exchange, Queue, Tx
from pika.spec import Channel as ChannelClass

from neon_mq_connector.testing.embedded.arguments import check_consumer_arguments
from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.consuming import ACK, REJECT, REQUEUE, Consuming, Delivery
from neon_mq_connector.testing.embedded.errors import AMQPError, describe, not_found
from neon_mq_connector.testing.embedded.exchange import Binding
from neon_mq_connector.testing.embedded.frames import method_frame
from neon_mq_connector.testing.embedded.methods import (
    ACCESS_REQUEST,
    Method,
    decode_method,
    split_index,
)
from neon_mq_connector.testing.embedded.publishing import (
    MAX_BODY,
    REPLY_TO_NAME,
    Publishing,
    Routed,
)
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import (
    VirtualHost,
    check_not_default,
    check_not_reserved,
    unique_name,
)

_PUBLISH = struct.pack(">I", Basic.Publish.INDEX)
_ACK = struct.pack(">I", Basic.Ack.INDEX)
_ACK_SIZE = 13
_ack_arguments = struct.Struct(">QB").unpack_from
_content_header = struct.Struct(">HHQ")
_LEAST_HEADER = _content_header.size + 2


class ChannelState(enum.Enum):
    """Where a channel is in its life."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"


class Link(Protocol):
    """What a channel needs of its connection.

    Attributes:
        user: who is connected.
        vhost: the virtual host.
        frame_max: the largest frame that was negotiated.
        notifies_cancel: whether the client wants to know when a queue of its consumers is gone.
    """

    user: User
    vhost: VirtualHost
    frame_max: int
    notifies_cancel: bool

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""

    def closed(self, channel: Channel) -> None:
        """Take note that a channel has ended."""

    def published(self) -> None:
        """Take note that a message came."""

    def has_confirms(self, channel: Channel) -> None:
        """Take note that `flush` is to be called when all that came is handled."""


class _Content:
    """A message of which not everything has come."""

    __slots__ = ("_body", "arguments", "header", "received", "size")

    def __init__(self, arguments: bytes) -> None:
        self.arguments = arguments
        self.header: bytes | None = None
        self.size = 0
        self.received = 0
        self._body = bytearray()

    def add(self, part: bytes) -> None:
        self.received += len(part)
        if self.size <= MAX_BODY:  # what is too large is refused when all of it has come
            self._body += part

    @property
    def body(self) -> bytes:
        return bytes(self._body)


class _Transaction:
    """What is to be done when a transaction is committed."""

    def __init__(self) -> None:
        self.messages: list[Routed] = []
        self.settlements: list[tuple[str, list[Delivery]]] = []


class Channel:
    """A channel of a connection.

    Args:
        number: its number.
        link: the connection.
    """

    def __init__(self, number: int, link: Link) -> None:
        self.number = number
        self.state = ChannelState.NEW
        self.publishing = Publishing(number, link.vhost, link.user, link.send, link.frame_max)
        self.consuming = Consuming(
            number, link.send, link.frame_max, notifies_cancel=link.notifies_cancel
        )
        self._link = link
        self._vhost = link.vhost
        self._user = link.user
        self._content: _Content | None = None
        self._transaction: _Transaction | None = None
        self._last_queue = ""

    # --- frames in

    def receive_method(self, payload: bytes) -> None:
        """Handle a method frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        index = payload[:4]
        if self._content is not None:
            raise self._unexpected_frame()
        if self.state is ChannelState.OPEN:
            if index == _PUBLISH:
                self._content = _Content(payload[4:])
                return
            if index == _ACK and len(payload) == _ACK_SIZE:
                tag, bits = _ack_arguments(payload, 4)
                self._settle(tag, bits & 1 != 0, ACK, Basic.Ack.INDEX)
                return
        method = decode_method(payload)
        try:
            self._handle(method)
        except AMQPError as error:
            error.method = error.method or split_index(method.index)
            raise

    def receive_header(self, payload: bytes) -> None:
        """Handle a content header frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        content = self._content
        if self.state is ChannelState.CLOSING:
            return
        if content is None or content.header is not None or len(payload) < _LEAST_HEADER:
            raise self._unexpected_frame()
        class_id, _, content.size = _content_header.unpack_from(payload)
        if class_id != Basic.INDEX:
            raise AMQPError(
                505, f"expected content header for class 60, got one for class {class_id} instead"
            )
        content.header = payload[_content_header.size :]
        if not content.size:
            self._content = None
            self._publish(content.arguments, content.header, b"", 0)

    def receive_body(self, payload: bytes) -> None:
        """Handle a body frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        content = self._content
        if self.state is ChannelState.CLOSING:
            return
        if content is None or content.header is None:
            raise self._unexpected_frame()
        if len(payload) == content.size:
            self._content = None
            self._publish(content.arguments, content.header, payload, content.size)
            return
        content.add(payload)
        if content.received < content.size:
            return
        if content.received > content.size:
            raise AMQPError(501, f"a body is longer than the {content.size} octets announced")
        self._content = None
        self._publish(content.arguments, content.header, content.body, content.size)

    # --- the channel's life

    def flush(self) -> None:
        """Send the confirms of what has been published."""
        if self.publishing.has_confirms:
            self.publishing.send_confirms()

    def fail(self, error: AMQPError) -> None:
        """Close the channel because of an error, and wait for the client to agree."""
        self.flush()
        self.release()
        class_id, method_id = error.method or (0, 0)
        self._send(ChannelClass.Close(error.code, error.text, class_id, method_id))

    def release(self) -> None:
        """Let go of everything that the channel has."""
        self.state = ChannelState.CLOSING
        self._content = None
        self._forget_reply_address()
        if self._transaction is not None:  # what was not committed was not settled
            self._abandon(self._transaction)
        self.consuming.close()

    def check_timeouts(self, default: int, now: float) -> None:
        """End the channel if its client has held a message for too long.

        Args:
            default: how long that is where the queue does not say, in milliseconds.
            now: the time of the clock.

        Raises:
            AMQPError: 406.
        """
        oldest = next(iter(self.consuming.unsettled.values()), None)
        if oldest is None:
            return
        limit = oldest.queue.consumer_timeout or default
        if oldest.entry.delivered_at + limit < now:
            raise AMQPError(
                406,
                f"delivery acknowledgement on channel {self.number} timed out. Timeout value "
                f"used: {limit} ms. This timeout value can be configured, see consumers doc "
                "guide to learn more",
            )

    # --- methods

    def _handle(self, method: Method) -> None:
        if self.state is ChannelState.CLOSING:
            if method.index == ChannelClass.CloseOk.INDEX:
                self._link.closed(self)
            elif method.index == ChannelClass.Close.INDEX:
                self._send(ChannelClass.CloseOk())
            return
        is_open = self.state is ChannelState.OPEN
        if method.index == ChannelClass.Open.INDEX:
            if is_open:
                raise AMQPError(504, "second 'channel.open' seen")
            self.state = ChannelState.OPEN
            self._send(ChannelClass.OpenOk())
            return
        if not is_open:
            raise AMQPError(504, "expected 'channel.open'")
        self.flush()
        handler = _HANDLERS.get(method.index)
        if handler is None:
            raise AMQPError(503, "unimplemented method")
        handler(self, method)

    def _close(self, method: Method) -> None:
        self.release()
        self._link.closed(self)
        self._send(ChannelClass.CloseOk())

    def _flow(self, method: Method) -> None:
        if not method.active:
            raise AMQPError(540, "active=false")
        self._send(ChannelClass.FlowOk(active=True))

    def _access_request(self, method: Method) -> None:
        # pika has no class for a reply that nobody has needed since AMQP 0-8
        self._link.send(struct.pack(">BHIIHB", 1, self.number, 6, ACCESS_REQUEST + 1, 1, 0xCE))

    def _declare_exchange(self, method: Method) -> None:
        name = _without_line_ends(method.exchange)
        if method.passive:
            check_not_default(name)
            self._vhost.exchange(name)
        else:
            if name != "":
                self._check_declaration("exchange", name, "alternate-exchange", method)
            self._vhost.declare_exchange(
                name,
                method.type,
                durable=method.durable,
                auto_delete=method.auto_delete,
                internal=method.internal,
                arguments=method.arguments,
            )
        self._reply(method, Exchange.DeclareOk())

    def _delete_exchange(self, method: Method) -> None:
        name = _without_line_ends(method.exchange)
        check_not_default(name)
        self._check("configure", "exchange", name)
        self._vhost.delete_exchange(name, if_unused=method.if_unused)
        self._reply(method, Exchange.DeleteOk())

    def _bind_exchange(self, method: Method) -> None:
        self._vhost.bind(self._exchange_binding(method), self._link)
        self._reply(method, Exchange.BindOk())

    def _unbind_exchange(self, method: Method) -> None:
        self._vhost.unbind(self._exchange_binding(method), self._link)
        self._reply(method, Exchange.UnbindOk())

    def _declare_queue(self, method: Method) -> None:
        name = _without_line_ends(method.queue)
        if name.startswith(REPLY_TO_NAME):
            self._declare_reply_to(method, name)
            return
        if method.passive:
            queue = self._vhost.queue(name, self._link)
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
                owner=self._link if method.exclusive else None,
                arguments=method.arguments,
            )
        self._last_queue = queue.name
        self._reply(method, Queue.DeclareOk(queue.name, queue.ready, len(queue.turns)))

    def _declare_reply_to(self, method: Method, name: str) -> None:
        if name != REPLY_TO_NAME and name not in self._vhost.reply_outlets:
            raise not_found(describe("queue", name, self._vhost.name))
        self._last_queue = name
        self._reply(method, Queue.DeclareOk(name, 0, 1))

    def _bind_queue(self, method: Method) -> None:
        self._vhost.bind(self._queue_binding(method), self._link)
        self._reply(method, Queue.BindOk())

    def _unbind_queue(self, method: Method) -> None:
        self._vhost.unbind(self._queue_binding(method), self._link)
        self._send(Queue.UnbindOk())

    def _purge_queue(self, method: Method) -> None:
        name = self._named(method.queue)
        self._check("read", "queue", name)
        count = self._vhost.queue(name, self._link).purge()
        self._reply(method, Queue.PurgeOk(count))

    def _delete_queue(self, method: Method) -> None:
        name = _without_line_ends(self._named(method.queue))
        self._check("configure", "queue", name)
        count = self._vhost.delete_queue(
            name, self._link, if_unused=method.if_unused, if_empty=method.if_empty
        )
        self._reply(method, Queue.DeleteOk(count))

    def _qos(self, method: Method) -> None:
        if method.prefetch_size:
            raise AMQPError(540, f"prefetch_size!=0 ({method.prefetch_size})")
        if method.global_qos:
            self.consuming.set_limit(method.prefetch_count)
        else:
            self.consuming.prefetch_count = method.prefetch_count
            self.consuming.set_limit(0)
        self._send(Basic.QosOk())

    def _consume(self, method: Method) -> None:
        tag = method.consumer_tag
        consumers = self.consuming.consumers
        name = self._named(method.queue)
        if tag in consumers:
            raise AMQPError(530, f"attempt to reuse consumer tag '{tag}'")
        if name == REPLY_TO_NAME:
            self._consume_answers(method)
            return
        self._check("read", "queue", name)
        queue = self._vhost.queue(name, self._link)
        check_consumer_arguments(queue.describe(), method.arguments)
        consumer = Consumer(
            tag or unique_name("amq.ctag"),
            queue,
            self.consuming,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch=self.consuming.prefetch_count,
            arguments=method.arguments,
        )
        queue.add_consumer(consumer)
        consumers[consumer.tag] = consumer
        self._reply(method, Basic.ConsumeOk(consumer.tag))
        queue.run()

    def _consume_answers(self, method: Method) -> None:
        if not method.no_ack:
            raise AMQPError(406, "reply consumer cannot acknowledge")
        if self.consuming.reply_tag is not None:
            raise AMQPError(406, "reply consumer already set")
        self.consuming.reply_tag = method.consumer_tag or unique_name("amq.ctag")
        address = f"{REPLY_TO_NAME}.{unique_name('g')}"
        self.publishing.reply_address = address
        self._vhost.reply_outlets[address] = self.consuming.deliver_answer
        self._reply(method, Basic.ConsumeOk(self.consuming.reply_tag))

    def _cancel(self, method: Method) -> None:
        tag = method.consumer_tag
        consumer = self.consuming.consumers.pop(tag, None)
        if tag == self.consuming.reply_tag:
            self._forget_reply_address()
        self._reply(method, Basic.CancelOk(tag))
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)

    def _get(self, method: Method) -> None:
        name = self._named(method.queue)
        self._check("read", "queue", name)
        queue = self._vhost.queue(name, self._link)
        if not self.consuming.get(queue, no_ack=method.no_ack):
            self._send(Basic.GetEmpty())

    def _nack(self, method: Method) -> None:
        how = REQUEUE if method.requeue else REJECT
        self._settle(method.delivery_tag, method.multiple, how, method.index)

    def _reject(self, method: Method) -> None:
        how = REQUEUE if method.requeue else REJECT
        self._settle(method.delivery_tag, False, how, method.index)

    def _ack(self, method: Method) -> None:
        self._settle(method.delivery_tag, method.multiple, ACK, method.index)

    def _recover(self, method: Method) -> None:
        if not method.requeue:
            raise AMQPError(540, "requeue=false")
        self.consuming.recover()
        if method.index == Basic.Recover.INDEX:
            self._send(Basic.RecoverOk())

    def _select_confirms(self, method: Method) -> None:
        if self._transaction is not None:
            raise AMQPError(406, "cannot switch from tx to confirm mode")
        self.publishing.confirms = True
        self._reply(method, Confirm.SelectOk())

    def _select_transactions(self, method: Method) -> None:
        if self.publishing.confirms:
            raise AMQPError(406, "cannot switch from confirm to tx mode")
        self._transaction = self._transaction or _Transaction()
        self._send(Tx.SelectOk())

    def _commit(self, method: Method) -> None:
        transaction = self._current_transaction()
        self._transaction = _Transaction()
        taken = [self.publishing.publish(each) for each in transaction.messages]
        for how, deliveries in transaction.settlements:
            self.consuming.settle(deliveries, how)
        if not all(taken):
            raise AMQPError(406, "partial tx completion")
        self._send(Tx.CommitOk())

    def _rollback(self, method: Method) -> None:
        transaction = self._current_transaction()
        self._transaction = _Transaction()
        self._abandon(transaction)
        self._send(Tx.RollbackOk())

    # --- inside

    def _publish(self, arguments: bytes, header: bytes, body: bytes, size: int) -> None:
        try:
            self._link.published()
            routed = self.publishing.route(arguments, header, body, size)
        except AMQPError as error:
            error.method = split_index(Basic.Publish.INDEX)
            raise
        if self._transaction is not None:
            self._transaction.messages.append(routed)
            return
        self.publishing.publish(routed)
        if self.publishing.confirms:
            self._link.has_confirms(self)

    def _settle(self, tag: int, multiple: bool, how: str, index: int) -> None:
        try:
            deliveries = self.consuming.take(tag, multiple=multiple)
        except AMQPError as error:
            error.method = split_index(index)
            raise
        if self._transaction is None:
            self.consuming.settle(deliveries, how)
        else:
            self._transaction.settlements.append((how, deliveries))

    def _current_transaction(self) -> _Transaction:
        if self._transaction is None:
            raise AMQPError(406, "channel is not transactional")
        return self._transaction

    def _abandon(self, transaction: _Transaction) -> None:
        for _, deliveries in transaction.settlements:
            self.consuming.put_back(deliveries)

    def _named(self, queue: str) -> str:
        """Return the name of a queue; an empty one stands for the last that was declared here."""
        if queue or self._last_queue:
            return queue or self._last_queue
        raise AMQPError(404, "no previously declared queue")

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
        name = self._named(method.queue)
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
        return Binding.of(source, kind, destination, routing_key, method.arguments)

    def _forget_reply_address(self) -> None:
        self.consuming.reply_tag = None
        if self.publishing.reply_address is not None:
            self._vhost.reply_outlets.pop(self.publishing.reply_address, None)
            self.publishing.reply_address = None

    def _reply(self, method: Method, reply: Reply) -> None:
        if not method.nowait:
            self._send(reply)

    def _send(self, method: Reply) -> None:
        self._link.send(method_frame(self.number, method))

    @staticmethod
    def _unexpected_frame() -> AMQPError:
        return AMQPError(505, "expected another kind of frame")


def _without_line_ends(name: str) -> str:
    return name.replace("\n", "").replace("\r", "")


_HANDLERS: dict[int, Callable[[Channel, Method], None]] = {
    ChannelClass.Close.INDEX: Channel._close,
    ChannelClass.Flow.INDEX: Channel._flow,
    ACCESS_REQUEST: Channel._access_request,
    Exchange.Declare.INDEX: Channel._declare_exchange,
    Exchange.Delete.INDEX: Channel._delete_exchange,
    Exchange.Bind.INDEX: Channel._bind_exchange,
    Exchange.Unbind.INDEX: Channel._unbind_exchange,
    Queue.Declare.INDEX: Channel._declare_queue,
    Queue.Bind.INDEX: Channel._bind_queue,
    Queue.Unbind.INDEX: Channel._unbind_queue,
    Queue.Purge.INDEX: Channel._purge_queue,
    Queue.Delete.INDEX: Channel._delete_queue,
    Basic.Qos.INDEX: Channel._qos,
    Basic.Consume.INDEX: Channel._consume,
    Basic.Cancel.INDEX: Channel._cancel,
    Basic.Get.INDEX: Channel._get,
    Basic.Ack.INDEX: Channel._ack,
    Basic.Nack.INDEX: Channel._nack,
    Basic.Reject.INDEX: Channel._reject,
    Basic.Recover.INDEX: Channel._recover,
    Basic.RecoverAsync.INDEX: Channel._recover,
    Confirm.Select.INDEX: Channel._select_confirms,
    Tx.Select.INDEX: Channel._select_transactions,
    Tx.Commit.INDEX: Channel._commit,
    Tx.Rollback.INDEX: Channel._rollback,
}
