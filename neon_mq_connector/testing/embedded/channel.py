"""A channel: its methods, in terms of the virtual host."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

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
from neon_mq_connector.testing.embedded.content import Content
from neon_mq_connector.testing.embedded.declaring import Declaring
from neon_mq_connector.testing.embedded.errors import AMQPError, unexpected_frame
from neon_mq_connector.testing.embedded.frames import FrameWriter
from neon_mq_connector.testing.embedded.methods import Method, decode_method
from neon_mq_connector.testing.embedded.publishing import REPLY_TO_NAME, Publishing, Routed
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost, unique_name

_PUBLISH = struct.pack(">I", Basic.Publish.INDEX)


class ChannelState(enum.Enum):
    """Where a channel is in its life."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class _Transaction:
    """What a commit performs."""

    def __init__(self) -> None:
        self.messages: list[Routed] = []
        self.settlements: list[tuple[str, list[Delivery]]] = []


class Channel:
    """A channel of a connection.

    Args:
        writer: sends frames to the client.
        vhost: the virtual host.
        user: who is connected.
        owner: what exclusive queues belong to: the connection.
        notifies_cancel: whether the client wants to know when a queue of its consumers is gone.
    """

    def __init__(
        self,
        writer: FrameWriter,
        vhost: VirtualHost,
        user: User,
        *,
        owner: object,
        notifies_cancel: bool,
    ) -> None:
        self.number = writer.channel
        self.state = ChannelState.NEW
        self.publishing = Publishing(writer, vhost, user)
        self.consuming = Consuming(writer, notifies_cancel=notifies_cancel)
        self._declaring = Declaring(vhost, user, owner)
        self._send = writer.method
        self._vhost = vhost
        self._content: Content | None = None
        self._transaction: _Transaction | None = None

    # --- frames in

    def receive_method(self, payload: bytes) -> None:
        """Handle a method frame.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        if self._content is not None:
            raise unexpected_frame()
        if self.state is ChannelState.OPEN and payload[:4] == _PUBLISH:
            self._content = Content(payload)
        else:
            self._handle(decode_method(payload))

    def receive_content(self, payload: bytes, *, is_header: bool) -> bool:
        """Handle a content header frame or a body frame.

        Returns:
            Whether a message was published: it has all its frames.

        Raises:
            AMQPError: the channel or the connection is to be closed.
        """
        content = self._content
        if self.state is ChannelState.CLOSING:
            return False
        if content is None:
            raise unexpected_frame()
        if is_header:
            content.add_header(payload)
        else:
            content.add_body(payload)
        if not content.is_complete:
            return False
        self._content = None
        self._publish(content)
        return True

    # --- the channel's life

    def flush(self) -> None:
        """Send the confirms of what has been published."""
        self.publishing.send_confirms()

    def fail(self, error: AMQPError) -> None:
        """Close the channel because of an error, and wait for the client to agree."""
        self.flush()
        self.release()
        self._send(ChannelClass.Close(*error.close_arguments))

    def release(self) -> None:
        """Release everything that the channel has in the broker."""
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
                self.state = ChannelState.CLOSED
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
        self.state = ChannelState.CLOSED
        self._send(ChannelClass.CloseOk())

    def _flow(self, method: Method) -> None:
        if not method.active:
            raise AMQPError(540, "active=false")
        self._send(ChannelClass.FlowOk(active=True))

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
        name = self._declaring.queue_name(method.queue)
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
        self._vhost.reply_consumers[address] = self.consuming.deliver_answer
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

    def _settle(self, method: Method) -> None:
        """Handle Basic.Ack, Nack or Reject."""
        multiple = method.index != Basic.Reject.INDEX and method.multiple
        deliveries = self.consuming.take(method.delivery_tag, multiple=multiple)
        how = ACK
        if method.index != Basic.Ack.INDEX:
            how = REQUEUE if method.requeue else REJECT
        if self._transaction is None:
            self.consuming.settle(deliveries, how)
        else:
            self._transaction.settlements.append((how, deliveries))

    def _recover(self, method: Method) -> None:
        if not method.requeue:
            raise AMQPError(540, "requeue=false")
        self.consuming.settle(self.consuming.take(0, multiple=True), REQUEUE)
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
            routed = self.publishing.route(content)
        except AMQPError as error:
            error.method = Basic.Publish.INDEX
            raise
        if self._transaction is not None:
            self._transaction.messages.append(routed)
        else:
            self.publishing.publish(routed)
        if routed.message.exchange == "":
            self._vhost.answer(routed.message)

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
            self._vhost.reply_consumers.pop(self.publishing.reply_address, None)
            self.publishing.reply_address = None

    def _reply(self, method: Method, reply: Reply) -> None:
        if not method.nowait:
            self._send(reply)


_HANDLERS: dict[int, Callable[[Channel, Method], None]] = {
    ChannelClass.Close.INDEX: Channel._close,
    ChannelClass.Flow.INDEX: Channel._flow,
    Basic.Qos.INDEX: Channel._qos,
    Basic.Consume.INDEX: Channel._consume,
    Basic.Cancel.INDEX: Channel._cancel,
    Basic.Get.INDEX: Channel._get,
    Basic.Ack.INDEX: Channel._settle,
    Basic.Nack.INDEX: Channel._settle,
    Basic.Reject.INDEX: Channel._settle,
    Basic.Recover.INDEX: Channel._recover,
    Basic.RecoverAsync.INDEX: Channel._recover,
    Confirm.Select.INDEX: Channel._select_confirms,
    Tx.Select.INDEX: Channel._select_transactions,
    Tx.Commit.INDEX: Channel._commit,
    Tx.Rollback.INDEX: Channel._rollback,
}
