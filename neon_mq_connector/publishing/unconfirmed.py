"""Messages that are neither confirmed nor failed, and how many there may be."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    PublishLostError,
    PublishRefusedError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Answer, Waiter
from neon_mq_connector.publishing.message import Flush, Message

#: How many bytes of bodies may be unconfirmed before a sender has to wait.
MAX_UNCONFIRMED_BYTES = 32 * 2**20
#: And how many messages, however small.
MAX_UNCONFIRMED = 65_536
#: The names under which failures are counted.
FAILURES: Mapping[type[BaseException], str] = {
    UnroutableError: "unroutable",
    PublishRejectedError: "rejected",
    PublishRefusedError: "rejected",
    PublishTimeoutError: "timeout",
    PublishLostError: "lost",
}


@dataclass(slots=True, eq=False)
class Unconfirmed:
    """A message that is neither confirmed nor failed.

    Attributes:
        message: the message.
        answer: what is told of its confirm or failure.
        deadline: until when it may be sent again, on the monotonic clock, in seconds.
        flush: when its frames are written.
        declared: whether what it needs was declared since it was returned.
        returned: whether the broker returned it; a confirm follows.
        frames: its bytes on the channel that it is sent on.
        is_counted: whether the `UnconfirmedLimit` counts it.
    """

    message: Message
    answer: Answer[None]
    deadline: float
    flush: Flush
    declared: bool = False
    returned: bool = False
    frames: bytes = b""
    is_counted: bool = False


class UnconfirmedLimit:
    """Count unconfirmed messages and their bytes, up to a limit; any thread may use it.

    `_lock` owns the counts and the threads that wait for them to change. It is reentrant: a signal
    handler that stops the service waits for the count, and must not wait for what it has
    interrupted.

    A signal handler may raise whenever a call returns. So counts change in lines without a call;
    a message whose sending an exception has ended is put into `dropped`, which is one step.

    Attributes:
        dropped: messages to be released by `release_dropped`.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bytes = 0
        self._count = 0
        self.dropped: deque[Unconfirmed] = deque()
        self._waiters: list[Waiter[None]] = []

    @property
    def count(self) -> int:
        """How many messages are unconfirmed."""
        if self.dropped:
            self.release_dropped()
        return self._count

    def add(self, item: Unconfirmed) -> bool:
        """Count a message, if there is room for it; return whether there was."""
        size = len(item.message.body)
        with self._lock:
            if self._count >= MAX_UNCONFIRMED or (
                self._bytes and self._bytes + size > MAX_UNCONFIRMED_BYTES
            ):
                return False
            self._bytes += size
            self._count += 1
            item.is_counted = True
            return True

    def release(self, item: Unconfirmed) -> None:
        """Release the room of a message; a second time does nothing."""
        size = len(item.message.body)
        with self._lock:
            if item.is_counted:
                item.is_counted = False
                self._bytes -= size
                self._count -= 1
            while self._waiters:
                self._waiters.pop().resolve(None)

    def release_dropped(self) -> None:
        """Release the room of messages whose sending an exception has ended."""
        with self._lock:
            while self.dropped:
                self.release(self.dropped[0])
                del self.dropped[0]

    def wait_until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition holds; it is checked whenever a message is released.

        Args:
            done: whether it holds.
            deadline: until when to wait, on the monotonic clock, in seconds.

        Returns:
            Whether it held in time.
        """
        while True:
            if self.dropped:
                self.release_dropped()
            change: Waiter[None] = Waiter()
            with self._lock:
                if done():
                    return True
                self._waiters.append(change)
            try:
                change.wait(time_left(deadline), "confirms")
            except WaitTimeoutError:
                return False
