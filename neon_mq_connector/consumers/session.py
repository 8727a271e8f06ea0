"""One attachment of a consumer: a channel, its consumer tag, and the books of its deliveries.

A session ends with its channel. What callbacks still do with the stand-in of an ended session is
told apart from what they do with the next one.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.byte_budget import ByteBudget
from neon_mq_connector.consumers.callback_channel import CallbackChannel
from neon_mq_connector.consumers.callback_connection import CallbackConnection
from neon_mq_connector.consumers.settlement import OpenDelivery, Settlement
from neon_mq_connector.errors import MQError, StoppedError
from neon_mq_connector.link import (
    Delivery,
    RawDelivery,
    SelectChannel,
    SelectLink,
    Waiter,
    delivery_tag,
)
from neon_mq_connector.threads.guard import Guard

if TYPE_CHECKING:
    from neon_mq_connector.publishing.confirm_channel import Message

LOG = logging.getLogger("neon_mq_connector.consumers")

_numbers = itertools.count(1)
_MOST_PREFETCHED = 65_535


@dataclass(frozen=True)
class SessionHost:
    """What a session may ask of the consumer it belongs to; callable from any thread.

    Attributes:
        stop: stop the consumer, without waiting.
        later: have the consumer's thread call something.
        publish_failed: deal with messages whose ack hung on a publish that failed.
        report: tell of an error that has no message.
        choose_prefetch: keep to a prefetch count from here on.
        answered: take note of an answer that has left by the publishing connection.
        ended: take it that a session is over, whatever becomes of its channel.
        is_stopping: whether the consumer is being stopped.
        acks_on_receipt: whether the library acknowledges, so that callbacks need not.
        inbox_max_bytes: how many bytes of messages may wait for their callback.
    """

    stop: Callable[[], None]
    later: Callable[[Callable[[], object]], None]
    publish_failed: Callable[[Session, OpenDelivery, BaseException], None]
    report: Callable[[BaseException], None]
    ended: Callable[[Session, MQError], None]
    choose_prefetch: Callable[[int], None]
    answered: Callable[[Session], None]
    is_stopping: Callable[[], bool]
    acks_on_receipt: bool
    inbox_max_bytes: int


class Session:
    """One generation of the consuming channel of one queue; callable from any thread.

    Attributes:
        publishing: the lock that owns what callbacks have published and is not confirmed.
        more_follows: whether the next callback is about to be called when the one that is running
            returns, so that what it publishes need not leave alone. Written by the thread that
            calls them, one after another; a hint for any that publishes.
        is_calling: whether the consumer's thread makes calls that a user has handed to it.
        takes_answers: whether answers may leave on the channel of this session.
        is_ours: whether the queue is as the registration says, and not as somebody else made it.
    """

    def __init__(
        self,
        host: SessionHost,
        connections: Connections,
        channel: SelectChannel,
        queue: str,
        consumer_arguments: Mapping[str, Any],
        *,
        takes_answers: bool = False,
        is_ours: bool = True,
    ) -> None:
        self.number = next(_numbers)
        self.connections = connections
        self.queue = queue
        self.consumer_tag = ""
        self.prefetch = 0
        self.more_follows = False
        self.is_calling = False
        self.takes_answers = takes_answers
        self.is_ours = is_ours
        self.since = time.monotonic()
        self.budget = ByteBudget(host.inbox_max_bytes)
        self.settlement = Settlement(channel, queue, channel.link.call_later)
        # reentrant: a signal handler may publish and acknowledge too
        self.publishing = threading.RLock()
        self.connection = CallbackConnection(self)
        self.channel = CallbackChannel(self)
        self._host = host
        self._link_channel = channel
        self._consumer_arguments = consumer_arguments

    @property
    def is_open(self) -> bool:
        """Whether the channel is open and its consumer is not being stopped."""
        return self._link_channel.is_open and not self._host.is_stopping()

    @property
    def link(self) -> SelectLink:
        """The connection that it consumes on."""
        return self._link_channel.link

    @property
    def is_attached(self) -> bool:
        """Whether the channel is open, so that deliveries can be settled."""
        return self._link_channel.is_open

    @property
    def error(self) -> MQError | None:
        """Why the channel is shut; None while it is not."""
        return self._link_channel.error

    def claim(self, tag: int, *, multiple: bool) -> list[OpenDelivery]:
        """Claim deliveries for a callback, or say in the log why there is nothing to settle."""
        claimed = self.settlement.claim(tag, multiple=multiple)
        if not claimed and not multiple:
            self.nothing_to_settle(tag)
        return claimed

    def nothing_to_settle(self, tag: int) -> None:
        """Say in the log that a callback settles what it cannot, if it ought not to."""
        if not self._host.acks_on_receipt:
            LOG.warning(
                "queue %r: delivery %s is settled already or was never delivered here; ignored",
                self.queue,
                tag,
            )

    def stop_consumer(self) -> None:
        """Stop the consumer that this session belongs to, without waiting."""
        self._host.stop()

    def wake(self) -> None:
        """Have the consumer's thread look at the calls that wait for it."""
        self._host.later(self._run_calls)

    def _run_calls(self) -> None:
        report = self._host.report
        self.is_calling = True
        with Guard("queue %r: a call that was handed to the consumer", self.queue, report=report):
            self.connection.run_calls()
        self.is_calling = False

    def publish_failed(self, deliveries: list[OpenDelivery], error: BaseException) -> None:
        """Have the consumer deal with deliveries whose ack hung on a publish that failed."""
        for each in deliveries:
            self._host.later(partial(self._host.publish_failed, self, each, error))

    def report_publish(self, error: BaseException) -> None:
        """Tell of a publish that failed and that no ack waits for."""
        self._host.report(error)

    def may_answer(self, tag: int) -> bool:
        """Whether an answer may leave on the channel on which its request came, with no confirm.

        The broker takes what comes on a channel in order: it does not get the request's ack without
        the answer, if that ack is still to come. Under an alarm it would read neither.

        Args:
            tag: the delivery tag of the request.
        """
        if not self.settlement.is_open(tag):
            return False
        if not self.takes_answers:
            self._host.answered(self)
            return False
        return self.link.blocked_reason is None and self._link_channel.is_writable

    def answer(self, message: Message, timeout: float) -> None:
        """Send an answer on the channel on which its request came.

        Args:
            message: for a direct reply-to.
            timeout: how long to wait, in seconds, for the broker to take what was sent before.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: there was no room in time; nothing was sent.
        """
        channel, more_follows = self._link_channel, self.more_follows
        frames = channel.encode("", message.routing_key, message.body, message.properties)
        channel.send(frames, timeout=timeout, flush=not more_follows)
        if more_follows:
            channel.flush_soon()

    def set_prefetch(self, count: int) -> None:
        """Change how many messages the broker sends ahead, as a callback has asked for.

        Raises:
            ValueError: there is no such count.
        """
        if type(count) is not int or not 0 <= count <= _MOST_PREFETCHED:
            raise ValueError(
                f"queue {self.queue!r}: prefetch_count={count!r} is not a number from 0 to "
                f"{_MOST_PREFETCHED}"
            )
        self._host.choose_prefetch(count)
        self.change_prefetch(count)

    def change_prefetch(self, count: int) -> None:
        """Change how many messages the broker sends ahead, by consuming anew on the same channel.

        A prefetch count applies to consumers that start after it (RabbitMQ, "Consumer Prefetch").
        """
        self.cancel()
        self.subscribe(count)

    def get(self, queue: str, auto_ack: bool) -> tuple[Any, Any, Any]:
        """Take one message from a queue; raises as pika does when there is no such queue."""
        # a queue that is missing closes the channel it is asked on, which must not be this one
        self.channel.queue_declare(queue, passive=True)
        answer = self._link_channel.get(
            queue, auto_ack, timeout=self.connections.policy.operation_timeout
        )
        if answer[0] is not None and not auto_ack:
            self.settlement.start(Delivery(*answer))  # noted as delivered when it was read
        return answer

    # -- I/O thread ----------------------------------------------------------------------------

    def _started(self, consumer_tag: str) -> None:
        self.consumer_tag = consumer_tag  # what comes now may be a reason to cancel at once

    def delivered(self, batch: Sequence[RawDelivery]) -> bool:
        """Note what has come.

        Returns:
            Whether so much waits that the flow is to be stopped for a while.
        """
        first, last = delivery_tag(batch[0][0]), delivery_tag(batch[-1][0])
        if last - first + 1 == len(batch):
            self.settlement.delivered(first, last)
        else:
            for raw in batch:
                tag = delivery_tag(raw[0])
                self.settlement.delivered(tag, tag)
        return self.budget.arrived(sum(len(raw[2]) for raw in batch))

    # -- the consumer's own thread -------------------------------------------------------------

    def subscribe(self, prefetch: int, waiter: Callable[[], Waiter[Any]] = Waiter) -> None:
        """Start the flow of deliveries.

        Args:
            prefetch: how many messages the broker sends ahead.
            waiter: makes the waiter of each of the two steps, so that a stop can end them.
        """
        channel, timeout = self._link_channel, self.connections.policy.operation_timeout
        # of what the broker sends ahead enough must be free for it to go on sending
        self.settlement.hold_up_to(1 if self._host.acks_on_receipt else prefetch // 3)
        try:
            channel.qos(prefetch, timeout=timeout, waiter=waiter())
            channel.consume(
                self.queue,
                arguments=self._consumer_arguments,
                timeout=timeout,
                started=self._started,
                waiter=waiter(),
            )
        except MQError as error:
            # the broker may have begun to deliver and not have said so in time
            self.fail(error)
            raise
        self.prefetch = prefetch

    def cancel(self) -> None:
        """Ask the broker to send no more."""
        tag, self.consumer_tag = self.consumer_tag, ""
        if tag and self._link_channel.is_open:
            self._link_channel.cancel(tag)

    def finish_flow(self, waiter: Waiter[Any]) -> None:
        """Have the broker send no more, and wait until all that it has sent is here, to be handled.

        Args:
            waiter: for the broker's answer, so that a stop can end it.
        """
        tag, self.consumer_tag = self.consumer_tag, ""
        timeout = self.connections.policy.operation_timeout
        try:
            self._link_channel.end_flow(tag, timeout=timeout, waiter=waiter)
        except StoppedError:
            raise  # callbacks that run may still settle
        except MQError as error:
            self.fail(error)
            raise

    def end(self) -> None:
        """Make sure that the channel is closed, without waiting."""
        self.settlement.flush()
        self._link_channel.close_soon()

    def fail(self, error: MQError) -> None:
        """Close the channel without waiting, and have the consumer recover from an error."""
        self.end()
        self._host.ended(self, error)

    def close(self, timeout: float) -> None:
        """Close the channel; the broker takes back what was not settled."""
        self.settlement.flush()
        if self._link_channel.is_open:
            self._link_channel.close(timeout=timeout)
