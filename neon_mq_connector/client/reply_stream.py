"""An answer in parts, iterated over by a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import Empty
from types import TracebackType
from typing import Any

from neon_mq_connector.client.parts_queue import PartsQueue, StreamEvent
from neon_mq_connector.client.question import Question
from neon_mq_connector.client.request import is_final
from neon_mq_connector.client.shared import Shared
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Returned
from neon_mq_connector.threads.mailbox import Mailbox


class ReplyStream:
    """Iterate over the parts of an answer; for one thread at a time.

    Args:
        shared: what the requests of the client share.
        question: what is asked; its timeout is that of each part.
        prefetch_count: how many parts are fetched ahead.
    """

    def __init__(self, shared: Shared, question: Question, prefetch_count: int) -> None:
        self._mail: Mailbox[StreamEvent] = Mailbox()
        self._queue = PartsQueue(shared, question, prefetch_count, self._mail.put)
        self._over = False
        self._failure: MQError | None = None

    @property
    def reply_queue(self) -> str:
        """The name of the queue that the parts come into."""
        return self._queue.name

    def open(self) -> None:
        """Make the queue and send the request.

        Raises:
            RequestTimeoutError: the broker was not ready in time.
            MQConnectionError: there is no connection.
        """
        self._queue.open()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give itself: the parts can be read once."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Wait for the next part.

        Raises:
            StopIteration: the part before was the last, or the stream is closed.
            RequestTimeoutError: it did not come in time.
            RequestLostError: the connection ended; what was still to come is gone.
            UnroutableError: no queue takes the request.
            DecodeError: it cannot be read.
        """
        if self._failure is not None:  # who asks once more is not to take it for the end
            raise self._failure
        if self._over:
            raise StopIteration
        queue = self._queue
        try:
            queue.acknowledge()
            part = self._wait_for_part()
            if is_final(part):
                queue.acknowledge()
                self.close()
        except BaseException as error:
            if isinstance(error, MQError):
                self._failure = error
            self.close()
            raise
        return part

    def _wait_for_part(self) -> dict[str, Any]:
        queue = self._queue
        deadline = time.monotonic() + queue.timeout
        while True:
            part = queue.next_part()
            if part is not None:
                return part
            try:
                event = self._mail.get(timeout=time_left(deadline))
            except Empty:
                raise queue.late() from None
            if isinstance(event, Returned):
                queue.declare_and_publish(deadline)
            else:
                queue.take(event)

    def __enter__(self) -> ReplyStream:
        """Close it at the end of the block."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was not read; the queue is deleted. A second time does no harm."""
        if not self._over:
            self._over = True
            self._queue.delete()
