"""Publish a message and go on; a future tells of its confirm."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from neon_mq_connector.errors import PublishError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.threads.futures import CancellableFuture, FutureThread


def submit(
    publisher: Publisher,
    futures: FutureThread,
    destination: Destination,
    encoded: EncodedMessage,
    *,
    timeout: float,
) -> Future[str]:
    """Publish a message, and return a future that is done when it is confirmed.

    Args:
        publisher: of the virtual host.
        futures: the thread that ends futures in time and runs their callbacks.
        destination: where the message goes; what is missing there is declared.
        encoded: the message, whose id is the result.
        timeout: how long to wait for a connection and for room, and how long the confirm may take,
            in seconds.

    Raises:
        PublishError: nothing was sent: there is no connection, or no room.
        TopologyError: the broker refused a declare.
    """
    deadline = time.monotonic() + timeout
    message = destination.message(encoded)
    future = MessageFuture(
        encoded.message_id,
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


class MessageFuture(CancellableFuture[str]):
    """The id of a message, once the broker has it.

    It is done on the I/O thread; its callbacks run on the thread of futures, which ends it at the
    deadline with the error that `late` makes.
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
        """Call a function with this future when it is done, at once if it is.

        Args:
            fn: the function; it should be short, since one thread calls all of them.
        """
        if self.done():
            super().add_done_callback(fn)
        else:
            super().add_done_callback(lambda _self: self._thread.call(lambda: fn(self)))

    def resolve(self, _value: None) -> None:
        """Set the result: the message is confirmed."""
        self._thread.forget(self)
        with suppress(InvalidStateError):  # it was cancelled, or has expired
            self.set_result(self._message_id)

    def fail(self, error: BaseException) -> None:
        """Set the exception: the message has failed."""
        self._thread.forget(self)
        with suppress(InvalidStateError):
            self.set_exception(error)

    def expire(self) -> None:
        """Fail: no confirm came in time."""
        self.fail(self._late())
