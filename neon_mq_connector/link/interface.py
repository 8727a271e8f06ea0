"""What a link and its channels offer to the layers above.

Those use one connection through these protocols and nothing else: they neither touch pika's
channels nor know how bytes reach the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pika.spec import BasicProperties

from neon_mq_connector.errors import MQError
from neon_mq_connector.link.encoder import EncodedProperties
from neon_mq_connector.link.events import ChannelEvents, LinkState
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.topology import Binding, Queue, QueueStatus


class Link(Protocol):
    """One connection to a virtual host, opened when first needed and kept until it is closed.

    Any thread may use it.

    Attributes:
        name: the name of the I/O thread; every log line and error carries it.
        state: where the link stands.
        blocked_reason: why the broker has blocked publishing; None when it has not.
        generation: how many times it was connected.
        last_tick: when the I/O thread was last seen alive, on the monotonic clock, in seconds.
        last_error: why it is not connected, or was not before.
    """

    name: str
    state: LinkState
    blocked_reason: str | None
    generation: int
    last_tick: float
    last_error: MQError | None

    def open_channel(
        self,
        events: ChannelEvents,
        *,
        timeout: float,
        waiter: Waiter[LinkChannel] | None = None,
    ) -> LinkChannel:
        """Open a channel, and the connection if there is none yet.

        While the connection is down this waits for the next attempt to connect, and no longer: if
        that fails, so does this.

        Args:
            events: where the channel reports what happens on it.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Raises:
            BrokerUnreachableError: no server answered; the link goes on trying.
            AuthenticationError, VhostAccessError: the broker is up and refused.
            StoppedError: the link was closed.
            WaitTimeoutError: no answer in time.
        """

    def open_soon(self) -> bool:
        """Open the connection if there is none yet, without waiting.

        Returns:
            Whether it is open.

        Raises:
            StoppedError: the link was closed.
        """

    def close(self, timeout: float) -> bool:
        """Close the channels and the connection, and end the thread.

        Args:
            timeout: how long to wait for the broker's answer, in seconds; after it the socket is
                dropped.

        Returns:
            Whether the thread has ended.
        """

    @property
    def is_io_thread(self) -> bool:
        """Whether the calling thread is the one that owns the connection."""

    def submit(self, work: Callable[[], None]) -> None:
        """Call something soon on the I/O thread; work is done in the order of the calls.

        Raises:
            StoppedError: the link was closed.
        """

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        """Call something on the I/O thread after a delay in seconds.

        Raises:
            StoppedError: the link was closed.
        """

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        """Call something that wakes another thread once the I/O thread has nothing else to do.

        Called on another thread, it is called at once.
        """

    def delay_reads(self, seconds: float) -> None:
        """Delay what the I/O thread reads next, so that more is read together.

        Called on another thread, which has read in its place, it does nothing.

        Args:
            seconds: how long there is enough to do without what comes; see `Loop.delay_reads`.
        """


class LinkChannel(Protocol):
    """One generation of a channel: once shut it stays so, and its delivery tags mean nothing.

    Any thread may use it. What waits for the broker raises `ChannelShutError` or
    `ConnectionLostError` when the channel ends first, `WaitTimeoutError` when there is no answer
    within ``timeout`` seconds, and ends early when another thread fails its ``waiter``. Where the
    broker closes the channel, pika's exception is the cause.
    """

    @property
    def link(self) -> Link:
        """The connection that the channel is on."""

    @property
    def is_open(self) -> bool:
        """Whether the broker has opened the channel and it is not shut."""

    @property
    def is_writable(self) -> bool:
        """Whether `send` need not wait for the broker to take what was sent before."""

    @property
    def error(self) -> MQError | None:
        """Why the channel is shut; None while it is not."""

    # -- with an answer ------------------------------------------------------------------------

    def declare_queue(
        self,
        queue: Queue,
        *,
        passive: bool = False,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> QueueStatus:
        """Declare a queue on this connection, as an exclusive one has to be."""

    def bind_queue(
        self, binding: Binding, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> None:
        """Bind a queue to an exchange."""

    def delete_queue(self, queue: str, *, timeout: float) -> None:
        """Delete a queue."""

    def qos(
        self, prefetch_count: int, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> None:
        """Set how many unacknowledged messages the broker may send ahead, per consumer."""

    def consume(
        self,
        queue: str,
        *,
        timeout: float,
        auto_ack: bool = False,
        arguments: Mapping[str, Any] | None = None,
        started: Callable[[str], object] | None = None,
        waiter: Waiter[Any] | None = None,
    ) -> str:
        """Start a consumer; its messages go to the `deliveries` event.

        Args:
            queue: what to consume from.
            timeout: how long to wait for the broker's answer, in seconds.
            auto_ack: whether messages count as acknowledged when they are sent.
            arguments: of the consume, such as ``x-priority``.
            started: called on the I/O thread with the consumer tag, before the first message.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The consumer tag.
        """

    def cancel(self, consumer_tag: str, ended: Callable[[Any], None] | None = None) -> None:
        """Cancel a consumer; messages may come until the broker has answered.

        Args:
            consumer_tag: of the consumer.
            ended: called on the I/O thread with the broker's answer.
        """

    def get(self, queue: str, auto_ack: bool, *, timeout: float) -> tuple[Any, Any, Any]:
        """Take one message from a queue.

        Returns:
            pika's ``(method, properties, body)``, three times None when the queue is empty.
        """

    def confirm(self, *, timeout: float) -> None:
        """Enter confirm mode: the broker confirms each message that is published from here on."""

    def close(self, *, timeout: float) -> None:
        """Close the channel and wait until it is; the broker requeues what was not settled."""

    def wait_for(
        self,
        what: str,
        begin: Callable[[Callable[[Any], None]], object],
        *,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> Any:
        """Call a function on the I/O thread and wait until it reports an answer.

        Args:
            what: what is waited for, for the message of an error.
            begin: called with a function to give the answer to.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.
        """

    # -- on the I/O thread ---------------------------------------------------------------------

    def add_consumer(
        self,
        queue: str,
        prefetch_count: int,
        *,
        arguments: Mapping[str, Any],
        started: Callable[[str], object],
    ) -> None:
        """Start another consumer, with a prefetch count of its own; a refusal closes the channel.

        Args:
            queue: what to consume from.
            prefetch_count: how many unacknowledged messages the broker may send to this consumer.
            arguments: of the consume.
            started: called with the consumer tag, before the first message.
        """

    def cancel_all(self, ended: Callable[[Any], None] | None = None) -> None:
        """Cancel all consumers.

        Args:
            ended: called when the broker has sent all that it sends for them.
        """

    # -- without an answer ---------------------------------------------------------------------

    def close_soon(self) -> None:
        """Close the channel without waiting for the broker's answer."""

    def encode(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | EncodedProperties,
        *,
        mandatory: bool = False,
    ) -> bytes:
        """Return the frames of a message, for `send` on this channel.

        Raises:
            pika.exceptions.AMQPError, ValueError: a name or a property cannot be put on the wire.
        """

    def send(self, frames: bytes, *, timeout: float = 0.0, flush: bool = True) -> None:
        """Send an encoded message; what becomes of it is reported by the events.

        Args:
            frames: what `encode` returned.
            timeout: how long to wait, in seconds, for the broker to take what was sent before; 0
                to send in any case.
            flush: write now; otherwise `flush` has to be called soon.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """

    def flush(self) -> None:
        """Write what was sent without being written."""

    def flush_soon(self) -> None:
        """Write it soon, together with what is sent until then."""

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""

    def reject(self, delivery_tag: int, *, requeue: bool) -> None:
        """Count a delivery as failed; without requeue the broker dead-letters or drops it."""

    def nack(self, delivery_tag: int, *, requeue: bool) -> None:
        """Requeue a delivery; from RabbitMQ 4.3 on that does not count as a failure."""

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read what comes on the connection until something is done: see `Reader.read_until`.

        To be called by the only thread that waits for something to come.
        """
