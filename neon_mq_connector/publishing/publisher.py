"""Confirmed publishing on one connection for any number of threads.

The broker confirms each message once it has it; a mandatory message that no queue takes comes
back first, and is then confirmed. `ConfirmChannel` keeps the books of one channel; when the channel
ends, everything without a confirm fails, and the next message opens another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from neon_mq_connector.control.connection import ControlConnection
from neon_mq_connector.control.control import Control
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    MQConnectionError,
    MQError,
    PublishError,
    PublishLostError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import SelectLink, Waiter
from neon_mq_connector.link.translate import refused_for_good
from neon_mq_connector.publishing.confirm_channel import (
    Answer,
    ConfirmChannel,
    Flush,
    Message,
    Unconfirmed,
)
from neon_mq_connector.publishing.refusals import refused_exchange, refused_message
from neon_mq_connector.threads.inside import Inside
from neon_mq_connector.topology import Queue, declare_queue

LOG = logging.getLogger("neon_mq_connector.publisher")

#: How many bytes of bodies may wait for their confirm before a caller has to wait.
MAX_UNCONFIRMED_BYTES = 32 * 2**20
#: And how many messages, however small.
MAX_UNCONFIRMED = 65_536


class Publisher:
    """Publish with confirms from any thread.

    `_opening` owns the current generation; `_counting` owns the counts of what is on its way. What
    a thread holds while it sends, or waits in the I/O thread's place, a signal handler that
    interrupts it cannot wait for: it publishes on another connection.

    Args:
        link: the publishing connection, which this object does not close.
        control: where exchanges are looked up and missing queues declared.
        substitute: gives the publisher for such a handler.
    """

    def __init__(
        self, link: SelectLink, control: Control, substitute: Callable[[], Publisher]
    ) -> None:
        self._substitute = substitute
        self._inside = Inside()
        self._link = link
        self._control = control
        self._opening = threading.Lock()
        self._generation: ConfirmChannel | None = None
        # names only: one that was deleted since is found out by the broker's refusal
        self._exchanges: set[str] = set()
        self._counting = threading.RLock()
        self._space = threading.Condition(self._counting)
        self._bytes = 0
        self._outstanding = 0
        self._waiting = 0

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
        self._submit(message, waiter, deadline)
        generation = self._generation
        if self._outstanding == 1 and generation is not None:
            generation.lead(waiter.has_answer, deadline, self._inside)
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
        self._submit(message, answer, deadline, flush)

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
        thread, inside = threading.get_ident(), self._inside.threads
        if thread in inside:
            return False
        size = len(message.body)
        inside.add(thread)
        try:
            with self._space:
                if not self._has_room(size):
                    return False
                self._bytes += size
                self._outstanding += 1
            item = Unconfirmed(message, answer, deadline, flush)
            item.attempts = 1
            try:
                generation.send(item)
            except MQConnectionError:
                self._release(size)  # it has just ended
                return False
            except BaseException:
                self._release(size)
                raise
            return True
        finally:
            inside.discard(thread)

    def write_out(self) -> None:
        """Write what was held back; to be called before waiting for its confirm."""
        generation = self._generation
        if generation is None:
            return
        if self._inside:
            self._substitute().write_out()
            return
        with self._inside:
            generation.flush()

    def unconfirmed_in_time(self, message: Message, timeout: float) -> PublishError:
        """Make the error for a message that was sent and has no confirm, for whoever waits.

        Args:
            message: the message.
            timeout: how long was waited, in seconds.

        Returns:
            The error, which names the alarm if there is one.
        """
        return self._late(message, timeout, may_have_arrived=True)

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
        return self._outstanding

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was published is confirmed or failed.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether nothing is left.
        """
        with self._space:
            self._waiting += 1
            try:
                # what a signal handler has interrupted does not go on before it returns
                held_up = 1 if self._inside else 0
                return self._space.wait_for(lambda: self._outstanding <= held_up, timeout)
            finally:
                self._waiting -= 1

    # -- any thread ----------------------------------------------------------------------------

    def _submit(
        self, message: Message, answer: Answer, deadline: float, flush: Flush = Flush.NOW
    ) -> None:
        thread, inside = threading.get_ident(), self._inside.threads
        if thread in inside:
            self._substitute()._submit(message, answer, deadline, flush)
            return
        size = len(message.body)
        inside.add(thread)
        try:
            with self._counting:
                if not self._has_room(size):
                    self._wait_for_space(message, size, deadline)
                self._bytes += size
                self._outstanding += 1
            try:
                self._send(Unconfirmed(message, answer, deadline, flush))
            except BaseException:
                self._release(size)
                raise
        finally:
            inside.discard(thread)

    def _has_room(self, size: int) -> bool:
        return self._outstanding < MAX_UNCONFIRMED and (
            not self._bytes or self._bytes + size <= MAX_UNCONFIRMED_BYTES
        )

    def _wait_for_space(self, message: Message, size: int, deadline: float) -> None:
        if self._generation is not None:
            self._generation.flush()
        self._waiting += 1
        try:
            if not self._space.wait_for(lambda: self._has_room(size), time_left(deadline)):
                raise self._late(message, 0.0, may_have_arrived=False)
        finally:
            self._waiting -= 1

    def _send(self, item: Unconfirmed) -> None:
        message = item.message
        item.attempts += 1
        item.returned = False
        while True:
            try:
                generation = self._generation
                if generation is None or not generation.is_open:
                    generation = self._current(item.deadline)
                if message.exchange and message.exchange not in self._exchanges:
                    self._look_up(message.exchange, item.deadline)
                    self._exchanges.add(message.exchange)
            except WaitTimeoutError:
                raise self._late(message, 0.0, may_have_arrived=False) from None
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
                raise self._late(message, 0.0, may_have_arrived=False) from None
            return

    def _current(self, deadline: float) -> ConfirmChannel:
        generation = self._generation
        if generation is not None and generation.is_open:
            return generation
        if not self._opening.acquire(timeout=time_left(deadline)):
            raise WaitTimeoutError(f"{self._link.name}: another thread is still connecting")
        try:
            generation = self._generation
            if generation is None or not generation.is_open:
                generation = ConfirmChannel(self._settled, self._ended, self._refused)
                generation.open(self._link, deadline)
                self._generation = generation
            return generation
        finally:
            self._opening.release()

    def _look_up(self, exchange: str, deadline: float) -> None:
        # publishing to an exchange that is missing would close the channel that all share
        self._control.call(
            f"looking up exchange {exchange!r}",
            lambda channel: channel.exchange_declare(exchange, passive=True),
            timeout=time_left(deadline),
        )

    def _late(self, message: Message, timeout: float, *, may_have_arrived: bool) -> PublishError:
        reason = self._link.blocked_reason
        if reason is not None:
            detail = f"the broker has blocked publishing: {reason}"
        elif may_have_arrived:
            detail = f"the broker did not confirm it within {timeout:g} s"
        else:
            detail = f"not sent in time: {self._link.last_error or 'too much is unconfirmed'}"
        return PublishTimeoutError(f"{message}: {detail}", may_have_arrived=may_have_arrived)

    def _release(self, size: int) -> None:
        with self._counting:
            self._bytes -= size
            self._outstanding -= 1
            if self._waiting:
                self._space.notify_all()

    # -- I/O thread ----------------------------------------------------------------------------

    def _settled(self, item: Unconfirmed, error: PublishError | None) -> None:
        message = item.message
        if error is None:
            self._release(len(message.body))
            self._link.call_last(item.answer.resolve, None)
            return
        if (
            isinstance(error, UnroutableError)
            and (message.declare_missing or message.declare is not None)
            and item.attempts == 1
        ):
            self._declare_and_send(item, error)
            return
        item.answer.fail(error)
        self._release(len(message.body))

    def _refused(self, item: Unconfirmed, error: MQError) -> None:
        """Send a message again that found the channel shut; called on any thread."""
        if time.monotonic() < item.deadline:
            self._send_again(item, error)
            return
        item.answer.fail(self._late(item.message, 0.0, may_have_arrived=False))
        self._release(len(item.message.body))

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
                unroutable = UnroutableError(f"{message}: {error}", may_have_arrived=False)
                if message.declare is not None and item.attempts == 1:
                    self._declare_and_send(item, unroutable)
                    continue
                item.answer.fail(unroutable)
            elif not culprit_passed and refuses(message):
                culprit_passed = True
                item.answer.fail(
                    PublishRejectedError(f"{message}: {error}", may_have_arrived=False)
                )
            elif culprit_passed and item.attempts < 3:
                self._send_again(item, error)
                continue
            else:
                lost = PublishLostError(f"{message}: {error}", may_have_arrived=not culprit_passed)
                lost.__cause__ = error
                item.answer.fail(lost)
            self._release(len(message.body))

    def _declare_and_send(self, item: Unconfirmed, error: PublishError) -> None:
        message = item.message
        queue = Queue(message.routing_key)

        def declare(connection: ControlConnection) -> None:
            if message.declare is None:
                connection.drive(declare_queue(queue, connection.facts))
            else:
                connection.drive(message.declare(connection.facts))
                self._exchanges.add(message.exchange)  # the control thread cannot look it up

        self._later(item, error, declare)

    def _send_again(self, item: Unconfirmed, error: MQError) -> None:
        self._later(item, error, lambda _connection: None)

    def _later(
        self, item: Unconfirmed, error: BaseException, first: Callable[[ControlConnection], object]
    ) -> None:
        """Publish a message once more from the control thread, which may wait."""
        item.flush = Flush.NOW

        def again(connection: ControlConnection) -> None:
            first(connection)
            self._send(item)

        try:
            self._control.submit(again, _Resent(self, item))
        except MQError:
            item.answer.fail(error)
            self._release(len(item.message.body))


class _Resent(Waiter[None]):
    """Pass the failure to send a message again on to whoever waits for its confirm."""

    __slots__ = ("_item", "_publisher")

    def __init__(self, publisher: Publisher, item: Unconfirmed) -> None:
        super().__init__()
        self._publisher = publisher
        self._item = item

    def resolve(self, value: None) -> bool:
        """Do nothing: its confirm will come."""
        return True

    def fail(self, error: BaseException) -> bool:
        """Fail the message."""
        message = self._item.message
        if not isinstance(error, PublishError):
            cause = error
            error = UnroutableError(f"{message}: {cause}", may_have_arrived=False)
            error.__cause__ = cause
        self._item.answer.fail(error)
        self._publisher._release(len(message.body))
        return True


__all__ = ["Message", "Publisher"]
