"""One attachment of a consumer: a channel, its consumer tag, and the books of its deliveries.

A session ends with its channel. What callbacks still do with the stand-in of an ended session is
told apart from what they do with the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from neon_mq_connector.connections import Connections
from neon_mq_connector.consumers.callback_channel import CallbackChannel, CallbackConnection
from neon_mq_connector.consumers.flow import MOST_PREFETCHED, Flow
from neon_mq_connector.consumers.repetition import StartedDeliveries
from neon_mq_connector.consumers.settlement import OpenDelivery, Settlement
from neon_mq_connector.errors import MQError, StoppedError, WaitTimeoutError
from neon_mq_connector.link import (
    Delivery,
    Link,
    LinkChannel,
    RawDelivery,
    Waiter,
    delivery_tag,
)
from neon_mq_connector.threads.guard import Guard

if TYPE_CHECKING:
    from neon_mq_connector.publishing.message import Message

LOG = logging.getLogger("neon_mq_connector.consumers")

_numbers = itertools.count(1)
#: Acks may be under way for so many times what was asked for: two consumers, while one follows.
_PREFETCHES = 2
#: For how long nothing must have come before a consumer that is replaced ends, in seconds.
_QUIET_FOR = 0.05
_ADJUST_TIMEOUT = 1.0


@dataclass(frozen=True)
class SessionHost:
    """What a session may ask of the consumer it belongs to; callable from any thread.

    Attributes:
        stop: stop the consumer, without waiting.
        later: have the consumer's thread call something.
        publish_failed: deal with messages whose ack hung on a publish that failed.
        report: tell of an error that has no message.
        answered: take note of an answer that has left by the publishing connection.
        ended: take it that a session is over, whatever becomes of its channel.
        is_stopping: whether the consumer is being stopped.
        acks_on_receipt: whether the library acknowledges, so that callbacks need not.
        flow: how many messages the broker is to send ahead.
    """

    stop: Callable[[], None]
    later: Callable[[Callable[[], object]], None]
    publish_failed: Callable[[Session, OpenDelivery, BaseException], None]
    report: Callable[[BaseException], None]
    ended: Callable[[Session, MQError], None]
    answered: Callable[[Session], None]
    is_stopping: Callable[[], bool]
    acks_on_receipt: bool
    flow: Flow


class Session:
    """One generation of the consuming channel of one queue; callable from any thread.

    Attributes:
        publishing: the lock that owns what callbacks have published and is not confirmed.
        more_follows: whether the next callback is about to be called when the one that is running
            returns, or others run beside it, so that what it publishes need not leave alone.
            Written by the thread that starts them; a hint for any that publishes.
        is_calling: whether the consumer's thread makes calls that a user has handed to it.
        takes_answers: whether answers may leave on the channel of this session.
        is_ours: whether the queue is as the registration says, and not as somebody else made it.
        consumer_tag: of the consumer, or of the last of them; empty while there is none. Written
            by the I/O thread.
        prefetch: how many messages the broker may send ahead; after the start written by the I/O
            thread.
        started: what was acknowledged on receipt.
        lost: the same of the session before, whose acks the broker may not have read.
    """

    def __init__(
        self,
        host: SessionHost,
        connections: Connections,
        channel: LinkChannel,
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
        self.started = StartedDeliveries(_PREFETCHES * host.flow.asked)
        self.lost: StartedDeliveries | None = None
        self.settlement = Settlement(channel, queue, channel.link.call_later)
        # reentrant: a signal handler may publish and acknowledge too
        self.publishing = threading.RLock()
        self.connection = CallbackConnection(self)
        self.channel = CallbackChannel(self)
        self._host = host
        self._link_channel = channel
        self._consumer_arguments = consumer_arguments
        # owned by the I/O thread
        self._is_changing = False
        self._former_tag = ""
        self._former_prefetch = 0
        self._since = 0  # what came until then may be of former consumers
        self._when_adjusted: list[Callable[[None], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether the channel is open and its consumer is not being stopped."""
        return self._link_channel.is_open and not self._host.is_stopping()

    @property
    def link(self) -> Link:
        """The connection that it consumes on."""
        return self._link_channel.link

    @property
    def is_attached(self) -> bool:
        """Whether the channel is open, so that deliveries can be settled."""
        return self._link_channel.is_open

    @property
    def is_writable(self) -> bool:
        """Whether `answer` need not wait for the broker to take what was sent before."""
        return self._link_channel.is_writable

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
        return self.link.blocked_reason is None and self.is_writable

    def answer(self, message: Message, timeout: float) -> None:
        """Send an answer on the channel on which its request came.

        Args:
            message: for a direct reply-to.
            timeout: how long to wait, in seconds, for the broker to take what was sent before; 0 to
                send in any case.

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

        It returns when that is so, or soon: while messages come without a pause and are handled as
        quickly, a smaller number can wait. Where another consumer would change what the queue does,
        it holds from the next session on.

        Args:
            count: how many; 0 for as many as there can be.

        Raises:
            ValueError: there is no such count.
            ChannelShutError, ConnectionLostError: it holds from the next session on.
        """
        if type(count) is not int or not 0 <= count <= MOST_PREFETCHED:
            raise ValueError(
                f"queue {self.queue!r}: prefetch_count={count!r} is not a number from 0 to "
                f"{MOST_PREFETCHED}"
            )
        self._host.flow.asked = count or MOST_PREFETCHED
        with contextlib.suppress(WaitTimeoutError):
            self._link_channel.wait_for(
                "changing the prefetch", self.adjust, timeout=_ADJUST_TIMEOUT
            )

    def adjust_soon(self, *, exactly: bool = False) -> None:
        """Have the I/O thread look whether another prefetch is wanted.

        Args:
            exactly: whatever is unsettled now.
        """
        with contextlib.suppress(StoppedError):
            self.link.submit(partial(self.adjust, _ignore) if exactly else self.adjust)

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

    def _has_consumer(self, consumer_tag: str) -> None:
        self.consumer_tag = consumer_tag

    def _end_flow(self, ended: Callable[[Any], None] | None = None) -> None:
        self.consumer_tag = self._former_tag = ""
        self._is_changing = False
        self._link_channel.cancel_all(ended)

    def adjust(self, done: Callable[[None], object] | None = None) -> None:
        """Have the broker send ahead as many messages as are wanted now; it does not wait.

        A prefetch count applies to consumers that start after it (RabbitMQ, "Consumer Prefetch").
        So another consumer starts, and then this one ends. What comes for it meanwhile is handled
        like all else. If a change is under way, what is wanted when it is done follows.

        Args:
            done: called when it is so; what is unsettled now comes on top then.
        """
        if done is not None:
            self._when_adjusted.append(done)
        if self._is_changing:
            return
        unsettled = 0 if self._when_adjusted else self.settlement.unsettled_count()
        before, wanted = self.prefetch, self._host.flow.wanted(self.prefetch, unsettled)
        if wanted == before or not self.consumer_tag:
            while self._when_adjusted:
                self._when_adjusted.pop()(None)
            return
        LOG.debug("queue %r: prefetch %d -> %d", self.queue, before, wanted)
        self._is_changing = True
        self.prefetch, self._former_prefetch = wanted, before
        self._hold_acks()
        self._link_channel.add_consumer(
            self.queue, wanted, arguments=self._consumer_arguments, started=self._has_another
        )

    def _has_another(self, consumer_tag: str) -> None:
        if self.consumer_tag:  # or all were cancelled since
            self._former_tag, self.consumer_tag = self.consumer_tag, consumer_tag
            self._end_former_if_quiet(-1)

    def _end_former_if_quiet(self, newest: int) -> None:
        """End the former consumer if nothing has come for a while.

        A quorum queue takes back what is on its way to a consumer that is cancelled, and counts it
        as delivered (seen on RabbitMQ 4.0). Nothing is on its way when nothing comes, or when both
        consumers have all that they may have.

        Args:
            newest: the tag of the last delivery, a while ago.
        """
        if self._former_tag and self.settlement.newest == newest:
            self._end_former()
        elif self._former_tag:
            again = partial(self._end_former_if_quiet, self.settlement.newest)
            with contextlib.suppress(StoppedError):
                self.link.call_later(_QUIET_FOR, again)

    def _end_former(self) -> None:
        tag, self._former_tag = self._former_tag, ""
        self._link_channel.cancel(tag, self._changed)

    def _changed(self, _frame: object) -> None:
        self._since = self.settlement.newest
        self._is_changing = False
        self.adjust()

    def delivered(self, batch: Sequence[RawDelivery]) -> None:
        """Note what has come, and what it says of the prefetch that is wanted."""
        first, last = delivery_tag(batch[0][0]), delivery_tag(batch[-1][0])
        if last - first + 1 == len(batch):
            self.settlement.delivered(first, last)
        else:
            for raw in batch:
                tag = delivery_tag(raw[0])
                self.settlement.delivered(tag, tag)
        flow = self._host.flow
        size = sum([len(raw[2]) for raw in batch])
        flow.arrived(len(batch), size, self.settlement.unsettled_count())
        if self._former_tag:
            both = self.prefetch + self._former_prefetch
            self.settlement.call_if_unsent(both, self._since, self._end_former)
        else:
            self.adjust()

    # -- the consumer's own thread -------------------------------------------------------------

    def subscribe(self, prefetch: int, waiter: Callable[[], Waiter[Any]] = Waiter) -> None:
        """Start the flow of deliveries.

        Args:
            prefetch: how many messages the broker sends ahead.
            waiter: makes the waiter of each of the two steps, so that a stop can end them.
        """
        channel, timeout = self._link_channel, self.connections.policy.operation_timeout
        self.prefetch = prefetch
        self._hold_acks()
        try:
            channel.qos(prefetch, timeout=timeout, waiter=waiter())
            channel.consume(
                self.queue,
                arguments=self._consumer_arguments,
                timeout=timeout,
                started=self._has_consumer,
                waiter=waiter(),
            )
        except MQError as error:
            # the broker may have begun to deliver and not have said so in time
            self.fail(error)
            raise

    def _hold_acks(self) -> None:
        # of what the broker sends ahead enough must be free for it to go on sending
        self.settlement.hold_up_to(1 if self._host.acks_on_receipt else self.prefetch // 3)

    def cancel(self) -> None:
        """Ask the broker to send no more; what still comes is for nobody to start."""
        with contextlib.suppress(StoppedError):
            self.link.submit(self._end_flow)

    def finish_flow(self, waiter: Waiter[Any]) -> None:
        """Have the broker send no more, and wait until all that it has sent is here, to be handled.

        Args:
            waiter: for the broker's answer, so that a stop can end it.
        """
        timeout = self.connections.policy.operation_timeout
        try:
            self._link_channel.wait_for(
                "cancelling the consumers", self._end_flow, timeout=timeout, waiter=waiter
            )
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


def _ignore(_: None) -> None:
    """Take note of nothing."""
