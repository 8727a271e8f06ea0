"""The books of one channel in confirm mode: what was published, and what became of it."""

from __future__ import annotations

import contextlib
import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pika.spec import BasicProperties

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    ChannelShutError,
    FrameError,
    MQError,
    PublishError,
    PublishRejectedError,
    UnroutableError,
)
from neon_mq_connector.link import (
    ChannelEvents,
    EncodedProperties,
    Link,
    LinkChannel,
    Returned,
)
from neon_mq_connector.topology import BrokerFacts, Steps

LOG = logging.getLogger("neon_mq_connector.publisher")


#: So many bytes that are held back are worth a system call.
_ENOUGH = 32_768


class Flush(enum.Enum):
    """When a message is to be written to the socket."""

    NOW = "now"
    #: Together with what is sent until the I/O thread comes to it.
    SOON = "soon"
    #: When there is enough, or when `ConfirmChannel.flush` is called, which has to happen.
    HELD = "held"


class Message(NamedTuple):
    """A message to publish.

    Attributes:
        exchange: the exchange; empty for the default one, which routes to the queue of that name.
        routing_key: the routing key, or the name of the queue.
        body: the bytes.
        properties: the AMQP properties.
        mandatory: fail when no queue takes it.
        declare_missing: when it comes back from the default exchange, declare the queue and
            publish once more.
        declare: the same for any exchange: makes the steps that declare what was missing.
        repeatable: publish it again when the channel ends before its confirm, though it may arrive
            twice then.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties | EncodedProperties
    mandatory: bool = False
    declare_missing: bool = False
    declare: Callable[[BrokerFacts], Steps] | None = None
    repeatable: bool = False

    def __str__(self) -> str:
        """Name the message by where it goes."""
        if self.exchange:
            return f"message for exchange {self.exchange!r}, routing key {self.routing_key!r}"
        return f"message for queue {self.routing_key!r}"


class Answer(Protocol):
    def resolve(self, value: None) -> object: ...

    def fail(self, error: BaseException) -> object: ...


class Unconfirmed:
    """A message on its way.

    Attributes:
        message: the message.
        answer: who is told of its end.
        deadline: until when it may be sent again, on the monotonic clock, in seconds.
        declared: whether what it needs was declared since it came back.
        returned: whether it came back; a confirm follows.
        frames: its bytes on the channel that it is sent on.
        flush: when they are to be written.
        is_counted: whether the publisher counts it among what is on its way.
    """

    __slots__ = (
        "answer",
        "deadline",
        "declared",
        "flush",
        "frames",
        "is_counted",
        "message",
        "returned",
    )

    def __init__(
        self, message: Message, answer: Answer, deadline: float, flush: Flush = Flush.NOW
    ) -> None:
        self.message = message
        self.answer = answer
        self.deadline = deadline
        self.declared = False
        self.returned = False
        self.frames = b""
        self.flush = flush
        self.is_counted = False


class ConfirmChannel:
    """The books of one channel in confirm mode.

    Numbers have to be given in the order in which messages leave. So what is to be sent is put into
    `_todo`, and whoever takes the only item out of `_idle` numbers and sends all that is there,
    others' too. Nobody waits for that: who is at it looks again after putting the item back.
    Whoever takes a message out of `_pending`, which is atomic, tells its end.

    A signal handler may raise an exception whenever a call returns. So the item is taken by ``del``
    and a message gets from one place to the next without a call in between.

    Args:
        on_settled: called on the I/O thread with a message that the broker took, or did not.
        on_end: called on the I/O thread when the channel has ended, with what has no confirm.
        on_refused: called on some thread with a message that was not sent: the channel is shut.
    """

    def __init__(
        self,
        on_settled: Callable[[Unconfirmed, PublishError | None], None],
        on_end: Callable[[ConfirmChannel, list[Unconfirmed], MQError], None],
        on_refused: Callable[[Unconfirmed, MQError], None],
    ) -> None:
        self._on_settled = on_settled
        self._on_end = on_end
        self._on_refused = on_refused
        self._channel: LinkChannel | None = None
        self._todo: deque[Unconfirmed] = deque()
        self._idle = [None]
        self._last = 0
        self._held = 0  # bytes; the sending thread's
        self._lowest = 1  # the I/O thread's: everything below is confirmed
        self._pending: dict[int, Unconfirmed] = {}
        self._error: MQError | None = None

    def open(self, link: Link, deadline: float) -> None:
        channel = link.open_channel(
            ChannelEvents(confirms=self._confirmed, returned=self._returned, shut=self._shut),
            timeout=time_left(deadline),
        )
        channel.confirm(timeout=time_left(deadline))
        self._channel = channel

    @property
    def is_open(self) -> bool:
        return self._channel is not None and self._channel.is_open

    def send(self, item: Unconfirmed) -> None:
        """Send a message, now or with others that follow.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
        """
        channel = self._channel
        if channel is None:
            raise ChannelShutError("the publishing channel is not open")
        if self._error is not None:
            raise self._error
        message = item.message
        item.frames = channel.encode(
            message.exchange,
            message.routing_key,
            message.body,
            message.properties,
            mandatory=message.mandatory,
        )
        self._todo.append(item)
        self._send_waiting(channel)

    def flush(self) -> None:
        """Write what is held back."""
        channel = self._channel
        if channel is not None:
            self._send_waiting(channel)
            channel.flush()

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read confirms until something is done; for the only thread that waits for one."""
        channel = self._channel
        if channel is not None:
            channel.read_until(done, deadline)

    def _send_waiting(self, channel: LinkChannel) -> None:
        while self._todo:
            try:
                del self._idle[0]
            except IndexError:
                return  # a thread is sending, and looks again
            try:
                flush = self._send_all(channel)
            except BaseException:
                # an interrupt: the numbers may no longer be true. What others wait to have sent
                # finds the channel shut
                channel.close_soon()
                channel.link.submit(lambda: self._send_waiting(channel))
                raise
            finally:
                self._idle.append(None)
            if flush is Flush.NOW:
                channel.flush()
            elif flush is Flush.SOON:
                channel.flush_soon()

    def _send_all(self, channel: LinkChannel) -> Flush:
        """Send what is to be sent; whoever called says when it is written, for others too."""
        todo, pending = self._todo, self._pending
        flush = Flush.HELD
        while todo:
            number = self._last + 1
            pending[number] = item = todo[0]
            del todo[0]
            if item.flush is Flush.HELD:
                self._held += len(item.frames)
            elif flush is not Flush.NOW:
                flush = item.flush
            try:
                channel.send(item.frames, flush=False)
            except MQError as error:
                if pending.pop(number, None) is not None:
                    self._on_refused(item, error)
            else:
                self._last = number
                item.frames = b""
        if flush is Flush.HELD and self._held < _ENOUGH:
            return flush
        self._held = 0
        return Flush.NOW if flush is Flush.HELD else flush

    # -- I/O thread ----------------------------------------------------------------------------

    def _confirmed(self, tag: int, multiple: bool, nacked: bool) -> None:
        pop = self._pending.pop
        sent = self._last + 1  # the sender may not have come to count the latest
        if not 0 < tag <= sent:
            raise FrameError(f"the broker confirms message {tag}, no more than {sent} were sent")
        if multiple:
            for number in range(self._lowest, tag):
                item = pop(number, None)
                if item is not None:
                    self._settle(item, nacked)
            self._lowest = tag + 1
        elif tag == self._lowest:
            self._lowest = tag + 1
        item = pop(tag, None)
        if item is not None:
            self._settle(item, nacked)

    def _settle(self, item: Unconfirmed, nacked: bool) -> None:
        error: PublishError | None = None
        if item.returned:
            error = UnroutableError(
                f"{item.message}: there is no such queue, or no binding takes it",
                may_have_arrived=False,
            )
        elif nacked:
            error = PublishRejectedError(
                f"{item.message}: the broker would not take it (a full queue or an internal "
                "error; its log says more)",
                may_have_arrived=False,
            )
        self._on_settled(item, error)

    def _returned(self, returned: Returned) -> None:
        # a return carries no number; the oldest message that looks the same is it, or its equal
        method = returned.method
        while True:
            with contextlib.suppress(RuntimeError):  # a sender has added one: look again
                for item in self._pending.values():
                    message = item.message
                    if (
                        not item.returned
                        and message.routing_key == method.routing_key
                        and message.exchange == method.exchange
                        and message.body == returned.body
                    ):
                        item.returned = True
                        return
                return

    def _shut(self, error: MQError) -> None:
        self._error = error
        pending = []
        while True:
            try:
                pending.append(self._pending.popitem()[1])
            except KeyError:
                break
        self._on_end(self, pending[::-1], error)
