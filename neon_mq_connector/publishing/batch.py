"""Publish many messages: none waits for the confirm of the one before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pika
import pika.exceptions as pika_errors

from neon_mq_connector.errors import (
    MQError,
    PublishBatchError,
    PublishError,
    PublishTimeoutError,
)
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination, Flush, Message
from neon_mq_connector.publishing.publisher import Publisher

#: How many messages of one batch may wait for their confirm. When so many do, half of them are
#: waited for, so that the two threads do not wake each other for every single message.
_WINDOW = 4096
_NEVER = 1 << 62
#: Messages that follow one another in so many seconds are written together.
_QUICKLY = 0.001
#: How often the progress of a batch is looked at, as parts of the time allowed.
_LOOKS = 10


def publish_all(
    publisher: Publisher,
    destination: Destination,
    messages: Iterator[EncodedMessage],
    *,
    timeout: float,
) -> list[str]:
    """Publish messages, and wait until the broker has all of them.

    Args:
        publisher: of the virtual host.
        destination: where they go; what is missing there is declared.
        messages: the messages, which are taken one by one.
        timeout: how long the broker may take nothing and confirm nothing, in seconds.

    Returns:
        Their ids, in order.

    Raises:
        PublishBatchError: some were not confirmed.
        MQError: why the first message was not sent, where it is no `PublishError`.
        Exception: what `messages` raised; all before it are confirmed.
    """
    batch = _Batch(publisher, destination, timeout)
    cause: Exception | None = None
    try:
        batch.send_all(messages)
    except Exception as error:
        cause = error
    batch.wait()
    batch.raise_failures(cause)
    if cause is not None:
        raise cause
    return batch.message_ids


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
        self._batch.failures[self._number] = _as_publish_error(error)
        self._batch.bell.set()


class _Batch:
    """Many messages to one destination, and which of them are confirmed.

    The thread that sends owns it, but for what the I/O thread writes: which messages are confirmed,
    and how many. Failures come from any thread, one key each.

    Attributes:
        message_ids: of the messages that were taken, in order.
        confirmed: by number: 1 for a message that the broker has.
        count: how many that are.
        failures: by number.
        wake_at: when so many are confirmed, the waiting thread is woken.
        bell: set then, and for every failure.
    """

    def __init__(self, publisher: Publisher, destination: Destination, timeout: float) -> None:
        self.message_ids: list[str] = []
        self.confirmed = bytearray()
        self.count = 0
        self.failures: dict[int, PublishError] = {}
        self.wake_at = _NEVER
        self.bell = threading.Event()
        self._publisher = publisher
        self._destination = destination
        self._timeout = timeout
        self._last_sent = self._seen_at = time.monotonic()
        self._seen = 0

    def send_all(self, messages: Iterator[EncodedMessage]) -> None:
        """Send until there are no more, or one cannot be sent.

        Raises:
            Exception: what came from `messages`, or kept the first message from being sent.
        """
        first = next(messages, None)
        if first is None or not self._send_first(first):
            return
        destination, post, timeout = self._destination, self._publisher.post, self._timeout
        # what `Destination.message` makes of each, without a call for each
        exchange, queue, mandatory = destination.exchange, destination.queue, destination.mandatory
        declares_queue = mandatory and not exchange
        steps = destination.declare if exchange else None
        held, soon = Flush.HELD, Flush.SOON
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
                # out of a signal handler: it is not known whether this one has left
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
        error = self._late()
        for number in range(total):
            if not self.confirmed[number]:
                self.failures.setdefault(number, error)

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

    def _send_first(self, first: EncodedMessage) -> bool:
        """Publish a message and wait for its confirm; what is missing is declared for it.

        If many were sent to a queue that is missing, each would be returned, and they would arrive
        in another order.
        """
        try:
            message = self._destination.message(first)
            self._publisher.publish(message, timeout=self._timeout)
        except PublishError as error:
            self.failures[0] = error
        else:
            self.count = 1
        self.message_ids.append(first.message_id)
        self.confirmed.append(self.count)
        return bool(self.count)

    def _wait_for_room(self, sent: int) -> int:
        """Wait until there are not too many; return up to how many need not be asked again."""
        settled = self.count + len(self.failures)
        if sent - settled < _WINDOW:
            return settled + _WINDOW
        if not self._wait_until(sent - _WINDOW // 2):
            raise PublishTimeoutError(f"not sent: {self._late()}", may_have_arrived=False)
        return sent + _WINDOW // 2

    def _wait_until(self, settled: int) -> bool:
        """Wait, as long as there is progress, for so many to end; return whether they have."""
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

    def _late(self) -> PublishError:
        nothing = EncodedMessage("", b"", pika.BasicProperties())
        some = self._destination.message(nothing)
        return self._publisher.unconfirmed_in_time(some, self._timeout)


def _as_publish_error(error: BaseException) -> PublishError:
    if isinstance(error, PublishError):
        return error
    other = PublishError(f"not sent: {error}", may_have_arrived=False)
    other.__cause__ = error
    return other
