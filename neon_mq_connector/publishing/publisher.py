"""Confirmed publishing on one connection for any number of threads.

The broker confirms each message once it has it; a mandatory message that no queue takes is returned
first, and then confirmed. `ConfirmChannel` is one channel; when it ends, everything that is
unconfirmed fails, and the next message opens another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from pika.exceptions import NoFreeChannels

from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    ConnectionLostError,
    MQConnectionError,
    MQError,
    PublishError,
    PublishLostError,
    PublishTimeoutError,
    StoppedError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Answer, Link, LinkChannel, Waiter
from neon_mq_connector.link.translate import refused_for_good
from neon_mq_connector.publishing.confirm_channel import ConfirmChannel
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.publishing.refusals import refusal_of
from neon_mq_connector.publishing.unconfirmed import FAILURES, Unconfirmed, UnconfirmedLimit
from neon_mq_connector.threads.on_demand import OnDemandThread
from neon_mq_connector.topology import Exchange, Refusal


class Publisher:
    """Publish with confirms from any thread.

    `_opening` owns the current channel. It is reentrant, so that it can be released after an
    exception out of a signal handler without knowing whether it was acquired.

    Attributes:
        outcomes: how many messages were confirmed, and how many failed in which way.

    Args:
        link: the publishing connection, which this object does not close.
        control: where exchanges are looked up and missing queues declared.
        open_channel: opens a channel, on that connection or another.
    """

    def __init__(
        self,
        link: Link,
        control: Control,
        open_channel: Callable[..., LinkChannel],
    ) -> None:
        self._link = link
        self._new_channel = open_channel
        self._control = control
        self._repairs = OnDemandThread(f"{link.name}-repairs")
        self._opening = threading.RLock()
        self._channel: ConfirmChannel | None = None
        # names only: one that was deleted since is found out by the broker's refusal
        self._exchanges: set[str] = set()
        self._limit = UnconfirmedLimit()
        self.outcomes = dict.fromkeys(("confirmed", *FAILURES.values()), 0)

    def publish(self, message: Message, *, timeout: float) -> None:
        """Publish and wait until the broker has the message.

        Args:
            message: what to publish.
            timeout: how long to wait at most, in seconds.

        Raises:
            UnroutableError: mandatory, and no queue takes it; nothing was stored.
            PublishRejectedError: the broker would not take it: its queue is full, try later.
            PublishRefusedError: the user may not write there, or the message is larger than the
                broker allows (16 MiB by default).
            PublishTimeoutError: no confirm in time; the message names the alarm if there is one.
            PublishLostError: the connection ended first.
            AuthenticationError, VhostAccessError: the broker refused the connection.
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
        """
        waiter: Waiter[None] = Waiter()
        deadline = time.monotonic() + timeout
        self.post(message, waiter, deadline, Flush.NOW)
        channel = self._channel
        if self._limit.count == 1 and channel is not None:
            channel.read_until(waiter.has_answer, deadline)
        try:
            waiter.wait(time_left(deadline), message)
        except WaitTimeoutError:
            raise self.unconfirmed_in_time(message, timeout) from None

    def post(
        self, message: Message, answer: Answer[None], deadline: float, flush: Flush = Flush.SOON
    ) -> None:
        """Publish without waiting for the confirm.

        Args:
            message: what to publish.
            answer: gets a result of None or an error as `publish` raises it, on the I/O thread: it
                must not wait.
            deadline: until when to wait for a connection and for room, and to send it again when
                it was returned, on the monotonic clock, in seconds.
            flush: when it is to be written; of what is held back see `write_out`.

        Raises:
            PublishLostError, PublishTimeoutError: there is no connection, or no room; nothing was
                sent.
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
        """
        item = Unconfirmed(message, answer, deadline, flush)
        try:
            if not self._limit.add(item):
                self._wait_for_room(item)
            self._send(item)
        except BaseException as error:
            self._limit.dropped.append(item)
            self._limit.release_dropped()
            self._count(error)
            raise

    def post_at_once(
        self, message: Message, answer: Answer[None], deadline: float, flush: Flush = Flush.NOW
    ) -> bool:
        """Publish as `post` does, with the same arguments, if nothing has to be waited for.

        Returns:
            Whether it was published; False when there is no connection or no room, or the exchange
            has to be looked up.
        """
        channel = self._channel
        if channel is None or not channel.is_open:
            return False
        exchange = message.exchange
        if exchange and (message.declare_first or exchange not in self._exchanges):
            return False
        item = Unconfirmed(message, answer, deadline, flush)
        try:
            if not self._limit.add(item):
                return False
            channel.send(item)
        except BaseException as error:
            self._limit.dropped.append(item)
            self._limit.release_dropped()
            if isinstance(error, MQConnectionError):
                return False  # it has just ended
            raise
        return True

    def write_out(self) -> None:
        """Write what was held back, as has to be done before waiting for its confirm."""
        channel = self._channel
        if channel is not None:
            channel.flush()

    def unconfirmed_in_time(self, message: Message, timeout: float) -> PublishError:
        """Return the error for a message that was sent and not confirmed in time.

        Args:
            message: the message.
            timeout: how long its sender waited, in seconds.
        """
        return self._too_late(
            message, f"the broker did not confirm it within {timeout:g} s", may_have_arrived=True
        )

    @property
    def unconfirmed(self) -> int:
        """How many messages are neither confirmed nor failed."""
        return self._limit.count

    def flush(self, timeout: float) -> bool:
        """Wait for at most so many seconds; return whether everything is confirmed or failed."""
        limit = self._limit
        return limit.wait_until(lambda: not limit.count, time.monotonic() + timeout)

    def _wait_for_room(self, item: Unconfirmed) -> None:
        self.write_out()
        if not self._limit.wait_until(lambda: self._limit.add(item), item.deadline):
            raise self._too_late(item.message, "too much is unconfirmed")

    def _send(self, item: Unconfirmed, *, declares: bool = False) -> None:
        message, exchange = item.message, item.message.exchange
        item.returned = False
        while True:
            try:
                channel = self._channel
                if channel is None or not channel.is_open:
                    channel = self._open_channel(item.deadline)
                if declares or (
                    exchange and (message.declare_first or exchange not in self._exchanges)
                ):
                    self._declare(message, time_left(item.deadline))
                    declares = False
            except WaitTimeoutError as error:
                raise self._too_late(message, error) from error
            except MQConnectionError as error:
                if refused_for_good(error) and not self._link.generation:
                    raise
                raise PublishLostError(
                    f"{message}: not sent: {error}", may_have_arrived=False
                ) from error
            try:
                channel.send(item)
                return
            except MQConnectionError:
                # ended since it was looked at; another is opened. The link limits the pace
                if not time_left(item.deadline):
                    raise self._too_late(message, "the channel ends again and again") from None

    def _declare(self, message: Message, timeout: float) -> None:
        """Declare what a message needs; an exchange that it does not declare is looked up."""
        exchange = message.exchange
        if message.declare is None:
            # publishing to an exchange that is missing would close the channel that all share
            look_up = Exchange(exchange).declare(passive=True)
            try:
                self._control.perform_step(look_up, timeout=timeout)
            except Refusal as refusal:
                raise refusal.__cause__ or refusal from refusal
        else:
            what = f"declaring what a {message} needs"
            self._control.perform(what, message.declare, timeout=timeout)
        if exchange:
            self._exchanges.add(exchange)

    def _open_channel(self, deadline: float) -> ConfirmChannel:
        try:
            if not self._opening.acquire(timeout=time_left(deadline)):
                raise WaitTimeoutError(f"{self._link.name}: another thread is still connecting")
            channel = self._channel
            while channel is None or not channel.is_open:
                channel = ConfirmChannel(self._settled, self._ended, self._send_again)
                try:
                    channel.open(self._new_channel, deadline)
                except ConnectionLostError as error:
                    # meanwhile: nothing was sent, and the link limits the pace
                    channel = None
                    is_full = isinstance(error.__cause__, NoFreeChannels)
                    if is_full or not time_left(deadline):
                        raise
            self._channel = channel
            return channel
        finally:
            # whether it was taken only the lock knows: an exception may have come right after that
            try:  # noqa: SIM105 - a call before the release would be a moment for another exception
                self._opening.release()
            except RuntimeError:
                pass

    def _too_late(
        self, message: Message, reason: object, *, may_have_arrived: bool = False
    ) -> PublishError:
        blocked = self._link.blocked_reason
        if blocked is not None:
            reason = f"the broker has blocked publishing: {blocked}"
        elif not may_have_arrived:
            reason = f"not sent in time: {self._link.last_error or reason}"
        return PublishTimeoutError(f"{message}: {reason}", may_have_arrived=may_have_arrived)

    # -- I/O thread ----------------------------------------------------------------------------

    def _settled(self, item: Unconfirmed, error: PublishError | None) -> None:
        message = item.message
        if error is None:
            self.outcomes["confirmed"] += 1
            self._limit.release(item)
            self._link.call_last(item.answer.resolve, None)
            return
        if isinstance(error, UnroutableError) and message.declare is not None and not item.declared:
            item.declared = True
            self._send_again(item, declares=True)
            return
        self._fail(item, error)

    def _fail(self, item: Unconfirmed, error: PublishError) -> None:
        self._count(error)
        item.answer.fail(error)
        self._limit.release(item)

    def _count(self, error: BaseException) -> None:
        # an interrupt may come with each call: the count changes in a line without one
        if (name := FAILURES.get(type(error))) is not None:
            self.outcomes[name] += 1

    def _ended(self, channel: ConfirmChannel, pending: list[Unconfirmed], error: MQError) -> None:
        """Settle what a channel left behind, in the order in which it was sent.

        When the broker closed the channel because of one message it took those before it, perhaps
        without having said so yet, and none of those after it: they are sent again.
        """
        if self._channel is channel:
            self._channel = None
        refusal = refusal_of(error)
        culprit_passed = False
        for item in pending:
            message = item.message
            if (refused := refusal(message)) is not None:
                culprit_passed = True
                self._exchanges.discard(message.exchange)  # it may be missing
                self._settled(item, refused)
            elif culprit_passed or message.repeatable:
                self._send_again(item)
            else:
                lost = PublishLostError(f"{message}: {error}", may_have_arrived=True)
                lost.__cause__ = error
                self._settled(item, lost)

    def _send_again(self, item: Unconfirmed, *, declares: bool = False) -> None:
        """Send a message once more, by the thread for repairs, which may wait."""
        item.flush = Flush.NOW
        self._repairs.call(partial(self._repair, item, declares))

    # -- the thread for repairs ----------------------------------------------------------------

    def _repair(self, item: Unconfirmed, declares: bool) -> None:
        message = item.message
        try:
            if not time_left(item.deadline):
                raise self._too_late(message, "its time was over before it could be sent again")
            self._send(item, declares=declares)
        except Exception as error:
            if isinstance(error, PublishError):
                failure = error
            else:
                is_lost = isinstance(error, (MQConnectionError, StoppedError))
                kind = PublishLostError if is_lost else UnroutableError
                failure = kind(f"{message}: not sent: {error}", may_have_arrived=False)
                failure.__cause__ = error
            if message.repeatable:
                failure.may_have_arrived = True  # the first time
            self._fail(item, failure)
