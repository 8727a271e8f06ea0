"""One attachment of a consumer to its queue, and the messages that came on it.

A session ends with its channel. Delivery tags of an ended session are never settled on the next.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.flow import Flow
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.consumers.repetition import StartedDeliveries
from neon_mq_connector.consumers.settlement import Settlement
from neon_mq_connector.consumers.subscription import Subscription
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Delivery, IOThread, LinkChannel, RawDelivery, delivery_tag
from neon_mq_connector.log_fields import log_fields
from neon_mq_connector.publishing.message import Message

LOG = logging.getLogger("neon_mq_connector.consumers")

#: Called with what was closed, a connection or a channel, and the reason.
CloseCallback = Callable[[Any, BaseException], object]

_numbers = itertools.count(1)
#: Acks may be under way for so many times what was asked for: two consumers, while one follows.
_PREFETCHES = 2
_NOT_KEPT: RawDelivery = (b"", b"", b"")
#: No callback needs less time for a message, and none that answers for a request, in seconds.
_TIME_PER_CALLBACK = 10e-6
_TIME_PER_ANSWER = 25e-6


class Host(Protocol):
    """What the parts of a consumer ask of it; any thread may call its methods."""

    registration: Registration
    connections: Connections
    flow: Flow

    @property
    def is_stopping(self) -> bool: ...

    def request_stop(self, timeout: float = ..., *, reason: str = "") -> None: ...

    def call_soon(self, call: Callable[[], object]) -> None: ...

    def report(self, error: BaseException) -> None: ...

    def publish_failed(self, messages: list[ReceivedMessage], error: BaseException) -> None: ...

    def publish_refused(self, message: ReceivedMessage, error: BaseException) -> None: ...

    def session_ended(self, session: Session, error: MQError) -> None: ...

    def answered(self, session: Session) -> None: ...

    def arrived(self, session: Session, batch: Sequence[RawDelivery]) -> None: ...


class ReceivedMessage:
    """A message from its arrival to its settlement.

    Owned by the thread that has taken it from the backlog, or has claimed it. Times are on the
    monotonic clock, in seconds.

    Attributes:
        session: the session on which it came.
        delivery: the message decoded; None before its callback starts.
        received: when it came.
        arrived: when it came, or was due for another try.
        started: when its callback was started.
        attempt: the number of this try, from 1.
        channel: the channel of its callback, once that has raised.
        is_partly_answered: whether parts of its answer were sent; another try would repeat them.
        trace: the context of its callback's span, if there is one.
    """

    __slots__ = (
        "arrived",
        "attempt",
        "channel",
        "delivery",
        "is_partly_answered",
        "raw",
        "received",
        "session",
        "started",
        "trace",
    )

    channel: Any  # its class imports this module
    trace: Any

    def __init__(
        self, session: Session, raw: RawDelivery, arrived: float, delivery: Delivery | None = None
    ) -> None:
        self.session = session
        self.raw = raw
        self.delivery = delivery
        self.received = self.arrived = self.started = arrived
        self.attempt = 1
        self.channel = self.trace = None
        self.is_partly_answered = False

    @property
    def tag(self) -> int:
        """The delivery tag."""
        delivery = self.delivery
        return delivery_tag(self.raw[0]) if delivery is None else delivery.method.delivery_tag

    @property
    def message_id(self) -> str | None:
        """Its id, as its sender has set it; None before its callback starts."""
        return None if self.delivery is None else self.delivery.properties.message_id

    @property
    def log_fields(self) -> dict[str, object]:
        """What log records say of it, as `log_fields` returns it."""
        session = self.session
        return log_fields(session.queue, session.connections.vhost, self.message_id)


class Session:
    """One generation of the consuming channel of one queue; any thread may call its methods.

    Attributes:
        host: the consumer.
        link_channel: the channel that it consumes on.
        connection, channel: what users get as its connection and its channel.
        publishing: the lock that owns the unconfirmed publishes of callbacks.
        more_follows: whether another callback runs or is about to, so that a publish may be written
            together with those that follow. Set by the thread that starts callbacks; a hint.
        is_calling: whether the consumer's thread calls functions that a user has handed to it.
        acks_on_receipt: whether messages are acknowledged before their callback starts.
        sends_answers: whether answers may leave on the channel of this session.
        is_as_registered: whether the queue exists as the registration describes it.
        time_to_settle: how long its callbacks need for a message at least, in seconds.
        end_reason: why the session is over; owned by the consumer's thread.
        started: the messages that were acknowledged on receipt.
        lost: those of the session before, whose acks the broker may not have read.
    """

    connection: Any  # their classes import this module
    channel: Any

    def __init__(
        self,
        host: Host,
        channel: LinkChannel,
        queue: str,
        *,
        sends_answers: bool = False,
        is_as_registered: bool = True,
    ) -> None:
        self.number = next(_numbers)
        self.host = host
        self.link_channel = channel
        self.connections = host.connections
        self.queue = queue
        self.more_follows = False
        self.is_calling = False
        self.acks_on_receipt = host.registration.ack is AckMode.ON_RECEIPT
        self.sends_answers = sends_answers
        self.is_as_registered = is_as_registered
        self.time_to_settle = _TIME_PER_ANSWER if sends_answers else _TIME_PER_CALLBACK
        self.since = time.monotonic()
        self.end_reason: MQError | None = None
        self.started = StartedDeliveries(_PREFETCHES * host.flow.asked)
        self.lost: StartedDeliveries | None = None
        self.settlement: Settlement[ReceivedMessage] = Settlement(channel, queue)
        self.subscription = Subscription(self.settlement, host.registration, host.flow)
        # reentrant: a signal handler may publish and acknowledge too
        self.publishing = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Whether the channel is open and its consumer is not being stopped."""
        return self.link_channel.is_open and not self.host.is_stopping

    @property
    def link(self) -> IOThread:
        """The connection that it consumes on."""
        return self.link_channel.link

    @property
    def is_attached(self) -> bool:
        """Whether the channel is open, so that deliveries can be settled."""
        return self.link_channel.is_open

    @property
    def is_writable(self) -> bool:
        """Whether `answer` need not wait for the broker to take what was sent before."""
        return self.link_channel.is_writable

    @property
    def consumer_tag(self) -> str:
        """The tag of the consumer; empty while there is none."""
        return self.subscription.consumer_tag

    @property
    def prefetch(self) -> int:
        """How many messages the broker may send ahead."""
        return self.subscription.prefetch

    def nothing_to_settle(self, tag: int) -> None:
        """Warn that a callback settles a message that it cannot settle."""
        if not self.acks_on_receipt:
            LOG.warning(
                "queue %r: delivery %s is settled already or was never delivered here; ignored",
                self.queue,
                tag,
            )

    def stop_consumer(self) -> None:
        """Stop the consumer of this session, without waiting."""
        self.host.request_stop(reason="a callback has closed its channel")

    def note_answer(self, tag: int) -> None:
        """Count the first answer to a request that leaves by the publishing connection."""
        if self.acks_on_receipt or self.settlement.is_open(tag):
            self.host.answered(self)

    def may_answer(self, tag: int) -> bool:
        """Whether an answer may leave on the channel of its request, without a confirm.

        The broker reads a channel in order: it does not get the request's ack without the answer,
        if that ack is still to come. During an alarm it would read neither.
        """
        is_unsettled = self.sends_answers and self.settlement.is_open(tag)
        return is_unsettled and self.link.blocked_reason is None and self.is_writable

    def answer(self, message: Message, timeout: float) -> None:
        """Send an answer to a direct reply-to on the channel of its request.

        Args:
            message: the answer.
            timeout: how long to wait, in seconds, for the broker to take what was sent before; 0 to
                send in any case.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """
        channel, more_follows = self.link_channel, self.more_follows
        frames = channel.encode("", message.routing_key, message.body, message.properties)
        channel.send(frames, timeout=timeout, flush=not more_follows)
        if more_follows:
            channel.flush_soon()

    def get(self, queue: str, auto_ack: bool) -> tuple[Any, Any, Any]:
        """Take one message from a queue; raises as pika does when there is no such queue."""
        # a missing queue would close this channel: ask for it on the control connection
        self.channel.queue_declare(queue, passive=True)
        answer = self.link_channel.get(
            queue, auto_ack, timeout=self.connections.policy.operation_timeout
        )
        if answer[0] is not None and not auto_ack:
            message = ReceivedMessage(self, _NOT_KEPT, time.monotonic(), Delivery(*answer))
            self.settlement.start(message)  # noted as delivered when it was read
        return answer

    # -- the end -------------------------------------------------------------------------------

    def note_end(self, error: MQError) -> None:
        """Set why the session is over; on the consumer's thread."""
        if self.end_reason is None:
            self.end_reason = error

    def end(self) -> None:
        """Close the channel, if it is open, without waiting."""
        self.settlement.flush()
        self.link_channel.close_soon()

    def fail(self, error: MQError) -> None:
        """Close the channel without waiting, and let the consumer recover from an error."""
        self.end()
        self.host.session_ended(self, error)

    def close(self, timeout: float) -> None:
        """Close the channel; the broker takes back what was not settled."""
        self.settlement.flush()
        if self.link_channel.is_open:
            self.link_channel.close(timeout=timeout)
