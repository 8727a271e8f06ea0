"""Publish many messages: none waits for the confirm of the one before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pika.exceptions as pika_errors

from neon_mq_connector.errors import MQError, PublishBatchError, PublishError, PublishTimeoutError
from neon_mq_connector.link import EncodedProperties
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination, Flush, Message
from neon_mq_connector.publishing.publisher import Publisher

#: How many messages of one batch may wait for their confirm. When so many do, half of them are
#: waited for, so that the two threads do not wake each other for every single message.
_WINDOW = 4096
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
    failures = batch.wait()
    if failures:
        number, first = next(iter(failures.items()))
        raise PublishBatchError(
            f"{len(failures)} of {len(batch.message_ids)} messages were not confirmed; "
            f"the first of them is number {number}: {first}",
            failures=failures,
            message_ids=batch.message_ids,
        ) from (cause or first)
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
        batch.unconfirmed.discard(self._number)
        if len(batch.unconfirmed) <= batch.wake_at:
            batch.bell.set()

    def fail(self, error: BaseException) -> None:
        assert isinstance(error, PublishError)
        self._batch.failures[self._number] = error
        self.resolve(None)


class _Batch:
    """Many messages to one destination, and which of them are not confirmed yet.

    The thread that sends owns it. Any thread takes numbers out of `unconfirmed`, and adds failures.

    Attributes:
        message_ids: of the messages that were taken, in order.
        unconfirmed: the numbers of those that were neither confirmed nor have failed.
        failures: by number.
        wake_at: when no more than so many are unconfirmed, the waiting thread is woken.
        bell: set then.
    """

    def __init__(self, publisher: Publisher, destination: Destination, timeout: float) -> None:
        self.message_ids: list[str] = []
        self.unconfirmed: set[int] = set()
        self.failures: dict[int, PublishError] = {}
        self.wake_at = -1
        self.bell = threading.Event()
        self._publisher = publisher
        self._destination = destination
        self._pattern = destination.message(EncodedMessage("", b"", EncodedProperties()))
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
        post, timeout, held = self._publisher.post, self._timeout, Flush.HELD
        exchange, queue, _body, _properties, mandatory, steps, *_ = self._pattern
        ids, unconfirmed = self.message_ids, self.unconfirmed
        number = len(ids)
        for message_id, body, properties in messages:
            try:
                unconfirmed.add(number)
                ids.append(message_id)
                if len(unconfirmed) > _WINDOW and not self._wait_until(_WINDOW // 2):
                    raise PublishTimeoutError(f"not sent: {self._late()}", may_have_arrived=False)
                self._last_sent = now = time.monotonic()
                post(
                    Message(exchange, queue, body, properties, mandatory, steps),
                    _Part(self, number),
                    now + timeout,
                    held,
                )
            except BaseException as error:
                if len(ids) == number:
                    ids.append(message_id)
                if isinstance(error, PublishError):
                    failure = error
                else:
                    # out of a signal handler: it is not known whether this one has left
                    is_known = isinstance(error, (MQError, pika_errors.AMQPError))
                    what = f"not sent: {error}" if is_known else f"interrupted: {error!r}"
                    failure = PublishError(what, may_have_arrived=not is_known)
                    failure.__cause__ = error
                self._not_sent(number, failure)
                raise
            number += 1

    def wait(self) -> dict[int, PublishError]:
        """Wait for what is on its way, and return the failures by number, in order.

        What is still without a confirm then has failed.
        """
        if not self._wait_until(0):
            error = self._late()
            for number in list(self.unconfirmed):
                self._not_sent(number, error)
        return dict(sorted(self.failures.items()))

    def _send_first(self, first: EncodedMessage) -> bool:
        """Publish a message and wait for its confirm; what is missing is declared for it.

        If many were sent to a queue that is missing, each would be returned, and they would arrive
        in another order.
        """
        self.message_ids.append(first.message_id)
        try:
            self._publisher.publish(self._destination.message(first), timeout=self._timeout)
        except PublishError as error:
            self.failures[0] = error
        return not self.failures

    def _not_sent(self, number: int, error: PublishError) -> None:
        """Note that a message has failed, unless it has been confirmed."""
        if number in self.unconfirmed:
            self.unconfirmed.discard(number)
            self.failures.setdefault(number, error)

    def _wait_until(self, unconfirmed: int) -> bool:
        """Wait, as long as there is progress, until no more are unconfirmed than that."""
        self._publisher.write_out()
        self.wake_at = unconfirmed
        while True:
            self.bell.clear()
            count = len(self.unconfirmed)
            if count <= unconfirmed:
                self.wake_at = -1
                return True
            now = time.monotonic()
            if count != self._seen:
                self._seen, self._seen_at = count, now
            left = max(self._seen_at, self._last_sent) + self._timeout - now
            if left <= 0:
                return False
            self.bell.wait(min(left, self._timeout / _LOOKS))

    def _late(self) -> PublishError:
        return self._publisher.unconfirmed_in_time(self._pattern, self._timeout)
