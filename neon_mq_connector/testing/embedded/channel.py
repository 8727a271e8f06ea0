"""A channel: its methods, in terms of the virtual host."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Protocol

from pika.amqp_object import Method as Reply
from pika.spec import Basic, Confirm, Queue, Tx
from pika.spec import Channel as ChannelClass

from neon_mq_connector.testing.embedded.arguments import check_consumer_arguments
from neon_mq_connector.testing.embedded.consumers import Consumer
from neon_mq_connector.testing.embedded.consuming import (
    ACK,
    REJECT,
    REQUEUE,
    Consuming,
    Delivery,
    Subscription,
)
from neon_mq_connector.testing.embedded.content import Content, unexpected_frame
from neon_mq_connector.testing.embedded.declaring import Declaring
from neon_mq_connector.testing.embedded.errors import AMQPError
from neon_mq_connector.testing.embedded.frames import method_frame
from neon_mq_connector.testing.embedded.methods import (
    ACCESS_REQUEST,
    Method,
    decode_method,
    split_index,
)
from neon_mq_connector.testing.embedded.names import unique_name
from neon_mq_connector.testing.embedded.publishing import (
    REPLY_TO_NAME,
    Publishing,
    Routed,
)
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

_PUBLISH = struct.pack(">I", Basic.Publish.INDEX)
_ACK = struct.pack(">I", Basic.Ack.INDEX)
_ACK_SIZE = 13
_ack_arguments = struct.Struct(">QB").unpack_from


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
        self._declaring = Declaring(link.vhost, link.user, link)
        self._link = link
        self._vhost = link.vhost
        self._content: Content | None = None
        self._transaction: _Transaction | None = None

    # --- frames in

    def receive_method(self, payload: bytes) -> None:
        """Handle a method frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        index = payload[:4]
        if self._content is not None:
            raise unexpected_frame()
        if self.state is ChannelState.OPEN:
            if index == _PUBLISH:
                self._content = Content(payload[4:])
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

    def receive_content(self, payload: bytes, *, is_header: bool) -> None:
        """Handle a content header frame or a body frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        content = self._content
        if self.state is ChannelState.CLOSING:
            return
        if content is None:
            raise unexpected_frame()
        if is_header:
            content.add_header(payload)
        else:
            content.add_body(payload)
        if content.is_complete:
            self._content = None
            self._publish(content)

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
        if handler is not None:
            handler(self, method)
            return
        reply = self._declaring.perform(method)
        if reply is None:
            raise AMQPError(503, "unimplemented method")
        # queue.unbind is the one that is always answered
        if method.index == Queue.Unbind.INDEX or not method.nowait:
            self._send(reply)

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
        subscriptions = self.consuming.subscriptions
        name = self._declaring.named(method.queue)
        if tag in subscriptions:
            raise AMQPError(530, f"attempt to reuse consumer tag '{tag}'")
        if name == REPLY_TO_NAME:
            self._consume_answers(method)
            return
        queue = self._declaring.readable_queue(name)
        check_consumer_arguments(queue.describe(), method.arguments)
        consumer = Consumer(
            tag or unique_name("amq.ctag"),
            self.consuming,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch=self.consuming.prefetch_count,
            arguments=method.arguments,
        )
        queue.add_consumer(consumer)
        subscriptions[consumer.tag] = Subscription(consumer, queue)
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
        subscription = self.consuming.subscriptions.pop(tag, None)
        if tag == self.consuming.reply_tag:
            self._forget_reply_address()
        self._reply(method, Basic.CancelOk(tag))
        if subscription is not None:
            subscription.queue.remove_consumer(subscription.consumer)

    def _get(self, method: Method) -> None:
        queue = self._declaring.readable_queue(method.queue)
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

    def _publish(self, content: Content) -> None:
        try:
            self._link.published()
            routed = self.publishing.route(content)
        except AMQPError as error:
            error.method = split_index(Basic.Publish.INDEX)
            raise
        if self._transaction is not None:
            self._transaction.messages.append(routed)
        else:
            self.publishing.publish(routed)
            if self.publishing.confirms:
                self._link.has_confirms(self)
        if routed.message.exchange == "":
            self._vhost.answer(routed.message)

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


_HANDLERS: dict[int, Callable[[Channel, Method], None]] = {
    ChannelClass.Close.INDEX: Channel._close,
    ChannelClass.Flow.INDEX: Channel._flow,
    ACCESS_REQUEST: Channel._access_request,
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
