"""Confirmed publishing on one connection for any number of threads.

The broker confirms each message once it has it; a mandatory message that no queue takes comes
back first, and is then confirmed. `ConfirmChannel` keeps the books of one channel; when the channel
ends, everything without a confirm fails, and the next message opens another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident

from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    PublishError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
    StoppedError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Link, Waiter
from neon_mq_connector.link.translate import refused_for_good
from neon_mq_connector.publishing.confirm_channel import (
    Answer,
    ConfirmChannel,
    Flush,
    Message,
    Unconfirmed,
)
from neon_mq_connector.publishing.refusals import refused_exchange, refused_message
from neon_mq_connector.threads.errands import Errands
from neon_mq_connector.threads.inside import Inside
from neon_mq_connector.topology import BrokerFacts, Queue, Steps, declare_queue

LOG = logging.getLogger("neon_mq_connector.publisher")

#: How many bytes of bodies may wait for their confirm before a caller has to wait.
MAX_UNCONFIRMED_BYTES = 32 * 2**20
#: And how many messages, however small.
MAX_UNCONFIRMED = 65_536


class Publisher:
    """Publish with confirms from any thread.

    `_opening` owns the current generation; `_counting` owns the counts of what is on its way and
    who waits for them to change. What a thread holds while it sends, or waits in the I/O thread's
    place, a signal handler that interrupts it cannot wait for: it publishes on another connection.

    Such a handler may also raise, whenever a call returns. So locks are taken by ``with``
    statements, and counts change in lines without a call; what is to be counted off then is put
    into `_dropped`, which is one step.

    Args:
        link: the publishing connection, which this object does not close.
        control: where exchanges are looked up and missing queues declared.
        substitute: gives the publisher for such a handler.
    """

    def __init__(self, link: Link, control: Control, substitute: Callable[[], Publisher]) -> None:
        self._substitute = substitute
        self._inside = Inside()
        self._link = link
        self._control = control
        self._repairs = Errands(f"{link.name}-repairs")
        self._opening = threading.RLock()
        self._generation: ConfirmChannel | None = None
        # names only: one that was deleted since is found out by the broker's refusal
        self._exchanges: set[str] = set()
        self._counting = threading.RLock()
        self._bytes = 0
        self._outstanding = 0
        self._dropped: deque[Unconfirmed] = deque()
        self._sleepers: list[Waiter[None]] = []

    def publish(self, message: Message, *, timeout: float) -> None:
        """Publish and wait until the broker has the message.

        Args:
            message: what to publish.
            timeout: how long to wait at most, in seconds.

        Raises:
            UnroutableError: mandatory, and no queue takes it; nothing was stored.
            PublishRejectedError: the broker would not take it: its queue is full, try later; or it
                is larger than the broker allows (16 MiB by default).
            PublishTimeoutError: no confirm in time; the message names the alarm if there is one.
            PublishLostError: the connection ended first.
            AuthenticationError, VhostAccessError: the broker refused the connection.
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
        """
        if self._inside:
            self._substitute().publish(message, timeout=timeout)
            return
        waiter: Waiter[None] = Waiter()
        deadline = time.monotonic() + timeout
        self.post(message, waiter, deadline, Flush.NOW)
        generation = self._generation
        if self._outstanding == 1 and generation is not None:
            generation.read_until(waiter.has_answer, deadline)
        try:
            waiter.wait(time_left(deadline), message)
        except WaitTimeoutError:
            raise self.unconfirmed_in_time(message, timeout) from None

    def post(
        self, message: Message, answer: Answer, deadline: float, flush: Flush = Flush.SOON
    ) -> None:
        """Publish, return at once, and have an object told of the confirm.

        Args:
            message: what to publish.
            answer: gets a result of None or an error as `publish` raises it, on the I/O thread: it
                must not wait.
            deadline: until when to wait for a connection and for room, and to send it again where
                it came back, on the monotonic clock, in seconds.
            flush: when it is to be written; of what is held back see `write_out`.

        Raises:
            PublishLostError, PublishTimeoutError: there is no connection, or no room; nothing was
                sent.
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
        """
        thread, inside = get_ident(), self._inside.threads
        if thread in inside:
            self._substitute().post(message, answer, deadline, flush)
            return
        item = Unconfirmed(message, answer, deadline, flush)
        try:
            inside.add(thread)
            if not self._count(item):
                self._wait_for_room(item)
            self._send(item)
        except BaseException:
            self._dropped.append(item)
            self._count_dropped()
            raise
        finally:
            inside.discard(thread)

    def post_at_once(
        self, message: Message, answer: Answer, deadline: float, flush: Flush = Flush.NOW
    ) -> bool:
        """Publish as `post` does, if nothing has to be waited for.

        Args:
            message: what to publish.
            answer: gets a result of None or the error, on the I/O thread: it must not wait.
            deadline: until when it may be sent again, on the monotonic clock, in seconds.
            flush: when it is to be written; of what is held back see `write_out`.

        Returns:
            Whether it was; False when there is no connection or no room, or the exchange has to be
            looked up.
        """
        generation = self._generation
        if generation is None or not generation.is_open:
            return False
        if message.exchange and message.exchange not in self._exchanges:
            return False
        thread, inside = get_ident(), self._inside.threads
        if thread in inside:
            return False
        item = Unconfirmed(message, answer, deadline, flush)
        try:
            inside.add(thread)
            if not self._count(item):
                return False
            generation.send(item)
        except BaseException as error:
            self._dropped.append(item)
            self._count_dropped()
            if isinstance(error, MQConnectionError):
                return False  # it has just ended
            raise
        finally:
            inside.discard(thread)
        return True

    def write_out(self) -> None:
        """Write what was held back; to be called before waiting for its confirm."""
        generation = self._generation
        if generation is None:
            return
        thread, inside = get_ident(), self._inside.threads
        if thread in inside:
            self._substitute().write_out()
            return
        try:
            inside.add(thread)
            generation.flush()
        finally:
            inside.discard(thread)

    def unconfirmed_in_time(self, message: Message, timeout: float) -> PublishError:
        """Make the error for a message that was sent and has no confirm, for whoever waits.

        Args:
            message: the message.
            timeout: how long was waited, in seconds.

        Returns:
            The error, which names the alarm if there is one.
        """
        return self._too_late(
            message, f"the broker did not confirm it within {timeout:g} s", may_have_arrived=True
        )

    def knows(self, exchange: str) -> bool:
        """Whether an exchange was declared or found here."""
        return exchange in self._exchanges

    def forget_exchange(self, exchange: str) -> None:
        """Note that an exchange may be gone, so that it is declared or looked up anew."""
        self._exchanges.discard(exchange)

    def exchange_exists(self, exchange: str) -> None:
        """Note that an exchange was just declared, so that it need not be looked up."""
        self._exchanges.add(exchange)

    @property
    def unconfirmed(self) -> int:
        """How many messages are neither confirmed nor failed."""
        if self._dropped:
            self._count_dropped()
        return self._outstanding

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was published is confirmed or failed.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether nothing is left.
        """
        deadline = time.monotonic() + timeout
        # what a signal handler has interrupted does not go on before it returns
        held_up = 1 if self._inside else 0
        try:
            self._wait_for_change(lambda: self.unconfirmed <= held_up, deadline)
        except WaitTimeoutError:
            return False
        return True

    # -- any thread ----------------------------------------------------------------------------

    def _count(self, item: Unconfirmed) -> bool:
        """Count a message as on its way, if there is room for it."""
        size = len(item.message.body)
        with self._counting:
            if self._outstanding >= MAX_UNCONFIRMED or (
                self._bytes and self._bytes + size > MAX_UNCONFIRMED_BYTES
            ):
                return False
            self._bytes += size
            self._outstanding += 1
            item.is_counted = True
            return True

    def _release(self, item: Unconfirmed) -> None:
        """Count a message off; a second time does nothing."""
        size = len(item.message.body)
        with self._counting:
            if item.is_counted:
                item.is_counted = False
                self._bytes -= size
                self._outstanding -= 1
            while self._sleepers:
                self._sleepers.pop().resolve(None)

    def _count_dropped(self) -> None:
        """Count off what an exception has ended."""
        with self._counting:
            while self._dropped:
                self._release(self._dropped[0])
                del self._dropped[0]

    def _wait_for_room(self, item: Unconfirmed) -> None:
        if self._generation is not None:
            self._generation.flush()
        try:
            self._wait_for_change(lambda: self._count(item), item.deadline)
        except WaitTimeoutError:
            raise self._too_late(item.message, "too much is unconfirmed") from None

    def _wait_for_change(self, done: Callable[[], bool], deadline: float) -> None:
        """Wait until something is so; it is asked for whenever a message is counted off.

        Raises:
            WaitTimeoutError: it was not in time.
        """
        while True:
            if self._dropped:
                self._count_dropped()
            change: Waiter[None] = Waiter()
            with self._counting:
                if done():
                    return
                self._sleepers.append(change)
            change.wait(time_left(deadline), f"{self._link.name}: confirms")

    def _send(self, item: Unconfirmed) -> None:
        message = item.message
        item.returned = False
        while True:
            try:
                generation = self._generation
                if generation is None or not generation.is_open:
                    generation = self._current(item.deadline)
                if message.exchange and message.exchange not in self._exchanges:
                    self._find_exchange(message, item.deadline)
            except WaitTimeoutError as error:
                raise self._too_late(message, error) from error
            except MQConnectionError as error:
                if refused_for_good(error) and not self._link.generation:
                    raise
                raise PublishLostError(
                    f"{message}: not sent: {error}", may_have_arrived=False
                ) from error
            try:
                generation.send(item)
            except MQConnectionError:
                # ended since it was looked at; another is opened. The link limits the pace
                if time.monotonic() < item.deadline:
                    continue
                raise self._too_late(message, "the channel ends again and again") from None
            return

    def _current(self, deadline: float) -> ConfirmChannel:
        generation = self._generation
        if generation is not None and generation.is_open:
            return generation
        try:
            if not self._opening.acquire(timeout=time_left(deadline)):
                raise WaitTimeoutError(f"{self._link.name}: another thread is still connecting")
            generation = self._generation
            if generation is None or not generation.is_open:
                generation = ConfirmChannel(self._settled, self._ended, self._refused)
                generation.open(self._link, deadline)
                self._generation = generation
            return generation
        finally:
            # whether it was taken only the lock knows: an exception may have come right after that
            try:  # noqa: SIM105 - a call before the release would be a moment for another exception
                self._opening.release()
            except RuntimeError:
                pass

    def _find_exchange(self, message: Message, deadline: float) -> None:
        # publishing to an exchange that is missing would close the channel that all share
        if message.declare is not None:
            self._declare(message, message.declare, deadline)
            return
        self._control.call(
            f"looking up exchange {message.exchange!r}",
            lambda channel: channel.exchange_declare(message.exchange, passive=True),
            timeout=time_left(deadline),
        )
        self._exchanges.add(message.exchange)

    def _declare(
        self, message: Message, steps: Callable[[BrokerFacts], Steps], deadline: float
    ) -> None:
        self._control.perform(
            f"declaring what a {message} needs", steps, timeout=time_left(deadline)
        )
        if message.exchange:
            self._exchanges.add(message.exchange)

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
            self._release(item)
            self._link.call_last(item.answer.resolve, None)
            return
        if (
            isinstance(error, UnroutableError)
            and (message.declare_missing or message.declare is not None)
            and not item.declared
        ):
            self._declare_and_send(item)
            return
        item.answer.fail(error)
        self._release(item)

    def _refused(self, item: Unconfirmed, _error: MQError) -> None:
        """Send a message again that found the channel shut; called on any thread."""
        self._send_again(item)

    def _ended(
        self, generation: ConfirmChannel, pending: list[Unconfirmed], error: MQError
    ) -> None:
        """Settle what a channel left behind, in the order in which it was sent.

        When the broker closed the channel because of one message it took those before it, perhaps
        without having said so yet, and none of those after it: they are sent again.
        """
        if self._generation is generation:
            self._generation = None
        missing, refuses = refused_exchange(error), refused_message(error)
        if missing is not None:
            self._exchanges.discard(missing)
        culprit_passed = False
        for item in pending:
            message = item.message
            if missing is not None and message.exchange == missing:
                culprit_passed = True
                if message.declare is not None and not item.declared:
                    self._declare_and_send(item)
                    continue
                item.answer.fail(UnroutableError(f"{message}: {error}", may_have_arrived=False))
            elif not culprit_passed and refuses(message):
                culprit_passed = True
                item.answer.fail(
                    PublishRejectedError(f"{message}: {error}", may_have_arrived=False)
                )
            elif culprit_passed or message.repeatable:
                self._send_again(item)
                continue
            else:
                lost = PublishLostError(f"{message}: {error}", may_have_arrived=True)
                lost.__cause__ = error
                item.answer.fail(lost)
            self._release(item)

    def _declare_and_send(self, item: Unconfirmed) -> None:
        message = item.message
        queue = Queue(message.routing_key)
        item.declared = True
        self._send_again(item, message.declare or partial(declare_queue, queue))

    def _send_again(
        self, item: Unconfirmed, declare: Callable[[BrokerFacts], Steps] | None = None
    ) -> None:
        """Have a message sent once more by the thread for repairs, which may wait."""
        item.flush = Flush.NOW
        self._repairs.call(partial(self._repair, item, declare))

    # -- the thread for repairs ----------------------------------------------------------------

    def _repair(self, item: Unconfirmed, declare: Callable[[BrokerFacts], Steps] | None) -> None:
        message = item.message
        try:
            if not time_left(item.deadline):
                raise WaitTimeoutError("its time was over before it could be sent again")
            if declare is not None:
                self._declare(message, declare, item.deadline)
            self._send(item)
        except Exception as error:
            failure = self._not_sent(message, error)
            if message.repeatable:
                failure.may_have_arrived = True  # the first time
            item.answer.fail(failure)
            self._release(item)

    def _not_sent(self, message: Message, error: Exception) -> PublishError:
        """Make the error for a message that could not be sent again."""
        if isinstance(error, PublishError):
            return error
        if isinstance(error, WaitTimeoutError):
            failure: PublishError = self._too_late(message, error)
        elif isinstance(error, (MQConnectionError, StoppedError)):
            failure = PublishLostError(f"{message}: not sent: {error}", may_have_arrived=False)
        else:
            failure = UnroutableError(f"{message}: {error}", may_have_arrived=False)
        failure.__cause__ = error
        return failure


__all__ = ["Message", "Publisher"]
