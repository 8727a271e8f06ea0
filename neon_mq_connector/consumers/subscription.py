"""The broker's consumer on one channel: how it starts and ends, and how its prefetch changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from neon_mq_connector.consumers.flow import MOST_PREFETCHED, Flow
from neon_mq_connector.consumers.registration import AckMode, Registration
from neon_mq_connector.consumers.settlement import Settlement
from neon_mq_connector.errors import StoppedError, WaitTimeoutError
from neon_mq_connector.link import RawDelivery, Waiter, delivery_tag, ignore

LOG = logging.getLogger("neon_mq_connector.consumers")

#: For how long nothing must have come before a consumer that is replaced ends, in seconds.
_QUIET_FOR = 0.05
_ADJUST_TIMEOUT = 1.0


class Subscription:
    """Consume a queue on a channel, with the prefetch count that is wanted now.

    Owned by the I/O thread, but for `prefetch` until the consumer has started.

    Attributes:
        consumer_tag: of the newest consumer; empty while there is none.
        prefetch: how many messages the broker may send ahead.
    """

    def __init__(self, settlement: Settlement[Any], registration: Registration, flow: Flow) -> None:
        self.consumer_tag = ""
        self.prefetch = 0
        self.flow = flow
        self.settlement = settlement
        self.queue = settlement.queue
        self._channel = settlement.channel
        self._arguments = registration.consumer_arguments
        self._acks_on_receipt = registration.ack is AckMode.ON_RECEIPT
        self._is_changing = False
        self._former_tag = ""
        self._former_prefetch = 0
        self._since = 0  # messages up to this tag may be those of former consumers
        self._when_adjusted: list[Callable[[None], object]] = []

    # -- the consumer's own thread -------------------------------------------------------------

    def start(self, prefetch: int, timeout: float, waiter: Waiter[Any]) -> None:
        """Start to consume; the waiter is that of the broker's answer.

        Raises:
            MQError: the broker refused, or did not answer; it may have begun to deliver.
        """
        self.prefetch = prefetch
        self._hold_acks()
        self._channel.consume(
            self.queue,
            prefetch_count=prefetch,
            arguments=self._arguments,
            started=self._started,
            timeout=timeout,
            waiter=waiter,
        )

    def finish(self, timeout: float, waiter: Waiter[Any]) -> None:
        """Cancel the consumer, and wait until all messages that the broker has sent are here."""
        self._channel.wait_for(
            "cancelling the consumers", self._cancel, timeout=timeout, waiter=waiter
        )

    # -- any thread ----------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel the consumer, without waiting."""
        with contextlib.suppress(StoppedError):
            self._channel.link.submit(self._cancel)

    def set_prefetch(self, count: int) -> None:
        """Change how many messages the broker sends ahead, as a callback asks for.

        It returns when the broker has changed it, or after a second: while messages come without a
        pause and are handled as quickly, a smaller number has to wait. Where another consumer would
        change what the queue does, the count holds from the next session on.

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
        self.flow.asked = count or MOST_PREFETCHED
        with contextlib.suppress(WaitTimeoutError):
            self._channel.wait_for("changing the prefetch", self.adjust, timeout=_ADJUST_TIMEOUT)

    def adjust_soon(self, *, exactly: bool = False) -> None:
        """Let the I/O thread change the prefetch; if exactly, whatever is unsettled now."""
        with contextlib.suppress(StoppedError):
            link = self._channel.link
            link.submit(partial(self.adjust, ignore) if exactly else self.adjust)

    def _hold_acks(self) -> None:
        # held acks count against the prefetch: enough must be left for the broker to go on sending
        self.settlement.most_held = 1 if self._acks_on_receipt else self.prefetch // 3

    # -- I/O thread ----------------------------------------------------------------------------

    def _started(self, consumer_tag: str) -> None:
        self.consumer_tag = consumer_tag

    def _cancel(self, ended: Callable[[Any], None] = ignore) -> None:
        self.consumer_tag = self._former_tag = ""
        self._is_changing = False
        self._channel.cancel_all(ended)

    def delivered(self, batch: Sequence[RawDelivery]) -> None:
        """Note messages that have come, and change the prefetch if another is wanted now."""
        first, last = delivery_tag(batch[0][0]), delivery_tag(batch[-1][0])
        if last - first + 1 == len(batch):
            self.settlement.delivered(first, last)
        else:
            for raw in batch:
                tag = delivery_tag(raw[0])
                self.settlement.delivered(tag, tag)
        size = sum([len(raw[2]) for raw in batch])
        self.flow.arrived(len(batch), size, self.settlement.unsettled_count())
        if self._former_tag:
            both = self.prefetch + self._former_prefetch
            self.settlement.call_if_unsent(both, self._since, self._end_former)
        else:
            self.adjust()

    def adjust(self, done: Callable[[None], object] | None = None) -> None:
        """Change the prefetch if another is wanted now, without waiting.

        A prefetch count applies to consumers that start after it (RabbitMQ, "Consumer Prefetch").
        So another consumer starts, and then this one ends; the messages of both are handled. If a
        change is under way, the next follows it.

        Args:
            done: called when the prefetch is as wanted. Then the messages that are unsettled now
                do not count against it.
        """
        if done is not None:
            self._when_adjusted.append(done)
        if self._is_changing:
            return
        unsettled = 0 if self._when_adjusted else self.settlement.unsettled_count()
        before, wanted = self.prefetch, self.flow.wanted(self.prefetch, unsettled)
        if wanted == before or not self.consumer_tag:
            while self._when_adjusted:
                self._when_adjusted.pop()(None)
            return
        LOG.debug("queue %r: prefetch %d -> %d", self.queue, before, wanted)
        self._is_changing = True
        self.prefetch, self._former_prefetch = wanted, before
        self._hold_acks()
        self._channel.add_consumer(
            self.queue, wanted, arguments=self._arguments, started=self._has_another
        )

    def _has_another(self, consumer_tag: str) -> None:
        if self.consumer_tag:  # or all were cancelled since
            self._former_tag, self.consumer_tag = self.consumer_tag, consumer_tag
            self._end_former_if_quiet(-1)

    def _end_former_if_quiet(self, newest: int) -> None:
        """Cancel the former consumer if nothing has come for a while; else look again later.

        A quorum queue takes back messages that are on their way to a consumer that is cancelled,
        and counts them as delivered (seen on RabbitMQ 4.0). None is on its way when nothing comes,
        or when both consumers have all that they may have.
        """
        if self._former_tag and self.settlement.newest == newest:
            self._end_former()
        elif self._former_tag:
            again = partial(self._end_former_if_quiet, self.settlement.newest)
            with contextlib.suppress(StoppedError):
                self._channel.link.call_later(_QUIET_FOR, again)

    def _end_former(self) -> None:
        tag, self._former_tag = self._former_tag, ""
        self._channel.cancel(tag, self._changed)

    def _changed(self, _frame: object) -> None:
        self._since = self.settlement.newest
        self._is_changing = False
        self.adjust()
