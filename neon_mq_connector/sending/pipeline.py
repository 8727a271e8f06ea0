"""Many messages on their way at once: none waits for the confirm of the one before.

`submit` sends one and gives a future. `publish_all` sends any number and keeps one set of books for
all of them, for as little work per message as can be. Both declare what is missing, as
`confirmed.send` does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import (
    MQError,
    PublishBatchError,
    PublishError,
    PublishTimeoutError,
)
from neon_mq_connector.publishing.confirm_channel import Flush
from neon_mq_connector.publishing.publisher import Message
from neon_mq_connector.sending.confirmed import (
    declare,
    declare_missing,
    message_for,
    needs_declare,
    send,
)
from neon_mq_connector.sending.outgoing import Outgoing
from neon_mq_connector.sending.target import Target
from neon_mq_connector.threads.futures import CancellableFuture, FutureThread

LOG = logging.getLogger("neon_mq_connector.publisher")

#: How many messages of one batch may wait for their confirm. When so many do, half of them are
#: waited for, so that the two threads do not wake each other for every single message.
_WINDOW = 4096
_NEVER = 1 << 62
#: Messages that follow one another in so many seconds are written together.
_QUICKLY = 0.001
#: The longest time that one is held back for that, in seconds.
_LONGEST_HOLD = 0.05
#: How often one who waits for a batch looks whether it gets on, as parts of the time allowed.
_LOOKS = 10


def submit(
    connections: Connections, target: Target, outgoing: Outgoing, *, timeout: float
) -> Future[str]:
    """Send a message and return at once what will tell of its confirm.

    Args:
        connections: of the virtual host.
        target: where the message goes; what is missing there is declared.
        outgoing: the message.
        timeout: how long to wait for a connection and for room, and how long the confirm may take,
            in seconds.

    Returns:
        A future with the message's id.

    Raises:
        PublishError: nothing was sent: there is no connection, or no room.
        TopologyError: the broker refused a declare.
    """
    deadline = time.monotonic() + timeout
    publisher = connections.publisher
    if needs_declare(connections, target):
        declare(connections, target, deadline)
    message = message_for(target, outgoing)
    futures = connections.futures
    future = MessageFuture(
        outgoing.message_id,
        deadline,
        futures,
        lambda: publisher.unconfirmed_in_time(message, timeout),
    )
    futures.expect(future)
    try:
        publisher.post(message, future, deadline)
    except BaseException:
        futures.forget(future)
        raise
    return future


def publish_all(
    connections: Connections, target: Target, messages: Iterator[Outgoing], *, timeout: float
) -> list[str]:
    """Send messages, and wait until the broker has all of them.

    Args:
        connections: of the virtual host.
        target: where they go; what is missing there is declared.
        messages: the messages, which are asked for one by one.
        timeout: how long the broker may take nothing and confirm nothing, in seconds.

    Returns:
        Their ids, in order.

    Raises:
        PublishBatchError: some were not confirmed.
        MQError: what the first message met with, where it is no `PublishError`.
        Exception: what `messages` raised; all before it are confirmed.
    """
    batch = _Batch(connections, target, timeout)
    cause: Exception | None = None
    try:
        with _WriteOut(connections):
            batch.send_all(messages)
    except Exception as error:
        cause = error
    batch.wait()
    batch.raise_failures(cause)
    if cause is not None:
        raise cause
    return batch.message_ids


class MessageFuture(CancellableFuture[str]):
    """The id of a message, once the broker has it.

    It is settled on the I/O thread; callbacks run on the thread of futures.

    Args:
        message_id: the id.
        deadline: until when the confirm is waited for, on the monotonic clock, in seconds.
        thread: of futures; it ends this one at the deadline.
        late: makes the error for that.
    """

    def __init__(
        self,
        message_id: str,
        deadline: float,
        thread: FutureThread,
        late: Callable[[], PublishError],
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self._message_id = message_id
        self._thread = thread
        self._late = late

    def add_done_callback(self, fn: Callable[[Future[str]], object]) -> None:
        """Have a function called with this future when it is done, at once if it is.

        Args:
            fn: the function; should be short, since one thread calls all of them.
        """
        if self.done():
            super().add_done_callback(fn)
        else:
            super().add_done_callback(lambda _self: self._thread.call(lambda: fn(self)))

    def resolve(self, _value: None) -> None:
        """Take the confirm."""
        self._thread.forget(self)
        try:
            self.set_result(self._message_id)
        except InvalidStateError:
            LOG.debug("message %s was confirmed after its future had ended", self._message_id)

    def fail(self, error: BaseException) -> None:
        """Take the failure."""
        self._thread.forget(self)
        try:
            self.set_exception(error)
        except InvalidStateError:
            LOG.debug("message %s failed after its future had ended", self._message_id)

    def expire(self) -> None:
        """Fail: no confirm came in time."""
        self.fail(self._late())


class _WriteOut:
    """See to it that messages are not held back for long while the next one lets us wait.

    Attributes:
        deadline: until when they may be, on the monotonic clock, in seconds.
    """

    def __init__(self, connections: Connections) -> None:
        self._publisher = connections.publisher
        self._futures = connections.futures
        self._over = False
        self.deadline = 0.0

    def __enter__(self) -> None:
        self._expect()

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._futures.forget(self)
        self._publisher.write_out()

    def expire(self) -> None:
        """Write what is held back; called by the thread of futures."""
        if not self._over:
            self._publisher.write_out()
            self._expect()

    def _expect(self) -> None:
        self.deadline = time.monotonic() + _LONGEST_HOLD
        self._futures.expect(self)


class _Part:
    """The answer for one message of a batch."""

    __slots__ = ("_batch", "_number")

    def __init__(self, batch: _Batch, number: int) -> None:
        self._batch = batch
        self._number = number

    def resolve(self, _value: None) -> None:
        batch = self._batch
        if batch.failures and self._number in batch.failures:
            return  # its sending was interrupted
        batch.confirmed[self._number] = 1
        batch.count = count = batch.count + 1
        if count >= batch.wake_at:
            batch.bell.set()

    def fail(self, error: BaseException) -> None:
        batch = self._batch
        batch.failures[self._number] = _as_publish_error(error)
        batch.bell.set()


class _Batch:
    """The books of many messages to one target.

    The thread that sends owns them, but for what the I/O thread writes: which messages are
    confirmed, and how many. Failures come from any thread, one key each.

    Attributes:
        message_ids: of the messages that were taken, in order.
        confirmed: by number: 1 for a message that the broker has.
        count: how many that are.
        failures: by number.
        wake_at: when so many are confirmed, whoever waits wants to know.
        bell: rung then, and for every failure.
    """

    def __init__(self, connections: Connections, target: Target, timeout: float) -> None:
        self.message_ids: list[str] = []
        self.confirmed = bytearray()
        self.count = 0
        self.failures: dict[int, PublishError] = {}
        self.wake_at = _NEVER
        self.bell = threading.Event()
        self._connections = connections
        self._publisher = connections.publisher
        self._target = target
        self._timeout = timeout
        self._last_sent = self._seen_at = time.monotonic()
        self._seen = 0

    def send_all(self, messages: Iterator[Outgoing]) -> None:
        """Send until there are no more, or one cannot be sent.

        Raises:
            Exception: what came from `messages`, or kept the first message from being sent.
        """
        for first in messages:
            if not self._send_first(first):
                return
            break
        target, exchange, queue = self._target, self._target.exchange, self._target.queue
        mandatory = target.one_queue_is_meant
        declares_queue = mandatory and not exchange
        steps = declare_missing(target)
        publisher, timeout = self._publisher, self._timeout
        post, knows, held, soon = publisher.post, publisher.knows, Flush.HELD, Flush.SOON
        ids, confirmed = self.message_ids, self.confirmed
        number = room = len(ids)
        for message_id, body, properties in messages:
            try:
                ids.append(message_id)
                confirmed.append(0)
                if number >= room:
                    room = self._wait_for_room(number)
                before, now = self._last_sent, time.monotonic()
                self._last_sent = now
                if exchange and not knows(exchange):
                    declare(self._connections, target, now + timeout)
                post(
                    Message(exchange, queue, body, properties, mandatory, declares_queue, steps),
                    _Part(self, number),
                    now + timeout,
                    held if now - before < _QUICKLY else soon,
                )
            except (MQError, pika_errors.AMQPError) as error:
                self.failures[number] = _as_publish_error(error)
                return
            except BaseException as error:
                # out of a signal handler: whether this one has left nobody knows
                if len(confirmed) == number:
                    confirmed.append(0)
                if not confirmed[number]:
                    self.failures[number] = PublishError(
                        f"interrupted while it was sent: {error!r}", may_have_arrived=True
                    )
                raise
            number += 1

    def wait(self) -> None:
        """Wait for what is on its way; what is still without a confirm then has failed."""
        total = len(self.confirmed)
        if self._wait_until(total):
            return
        some = self._message_to_name()
        for number in range(total):
            if not self.confirmed[number] and number not in self.failures:
                self.failures[number] = self._publisher.unconfirmed_in_time(some, self._timeout)

    def raise_failures(self, cause: Exception | None) -> None:
        """Raise an error if there are any.

        Args:
            cause: what ended the batch early.

        Raises:
            PublishBatchError: there are.
        """
        failures = dict(sorted(self.failures.items()))
        if not failures:
            return
        number, first = next(iter(failures.items()))
        raise PublishBatchError(
            f"{len(failures)} of {len(self.message_ids)} messages were not confirmed; "
            f"the first of them is number {number}: {first}",
            failures=failures,
            message_ids=self.message_ids,
        ) from (cause or first)

    def _send_first(self, first: Outgoing) -> bool:
        """Send a message and wait for its confirm: from there on it is known what there is.

        Were many sent to a queue that is missing, each would come back, and they would arrive in
        another order.
        """
        try:
            send(self._connections, self._target, first, timeout=self._timeout)
        except PublishError as error:
            self.failures[0] = error
        else:
            self.count = 1
        self.message_ids.append(first.message_id)
        self.confirmed.append(self.count)
        return bool(self.count)

    def _wait_for_room(self, sent: int) -> int:
        """Wait until there are not too many without a confirm.

        Returns:
            How many may have been sent until this has to be asked again.
        """
        settled = self.count + len(self.failures)
        if sent - settled < _WINDOW:
            return settled + _WINDOW
        if not self._wait_until(sent - _WINDOW // 2):
            error = self._publisher.unconfirmed_in_time(self._message_to_name(), self._timeout)
            raise PublishTimeoutError(f"not sent: {error}", may_have_arrived=False)
        return sent + _WINDOW // 2

    def _wait_until(self, settled: int) -> bool:
        """Wait until so many are confirmed or failed, as long as there is progress.

        Returns:
            Whether there are.
        """
        self._publisher.write_out()
        while True:
            self.bell.clear()
            failed = len(self.failures)
            self.wake_at = settled - failed
            count = self.count + failed
            if count >= settled:
                self.wake_at = _NEVER
                return True
            now = time.monotonic()
            if count != self._seen:
                self._seen, self._seen_at = count, now
            left = max(self._seen_at, self._last_sent) + self._timeout - now
            if left <= 0:
                return False
            self.bell.wait(min(left, self._timeout / _LOOKS))

    def _message_to_name(self) -> Message:
        nothing = Outgoing("", b"", pika.BasicProperties())
        return message_for(self._target, nothing)


def _as_publish_error(error: BaseException) -> PublishError:
    if isinstance(error, PublishError):
        return error
    other = PublishError(f"not sent: {error}", may_have_arrived=False)
    other.__cause__ = error
    return other


__all__ = ["MessageFuture", "publish_all", "submit"]
