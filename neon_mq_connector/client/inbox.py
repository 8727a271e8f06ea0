"""The queues on which readers wait for what other threads receive.

`Answers` and `PartsQueue` are read by the same coroutines for threads and for coroutines; these
await an `Inbox` and nothing else. On an asyncio loop they are awaited. A thread runs them by
`run_on_thread`, with an inbox that makes the thread wait: so they are never suspended.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from neon_mq_connector.deadline import time_left
from neon_mq_connector.threads.mailbox import Mailbox

T = TypeVar("T")


class Inbox(Protocol[T]):
    """A first-in, first-out queue from any threads to one reader."""

    def put(self, item: T, /) -> None:
        """Add an item; any thread may, and never waits."""

    async def get(self, deadline: float) -> T:
        """Remove and return the oldest item.

        Args:
            deadline: until when to wait for one, on the monotonic clock, in seconds.

        Raises:
            queue.Empty: none came in time.
        """

    def another(self) -> Inbox[Any]:
        """Return an empty one for the same reader."""


class ThreadInbox(Generic[T]):
    """An inbox whose reader is a thread.

    Args:
        read_until: reads from the connection until a function returns True or a deadline is over,
            where this thread may do so in place of the I/O thread.
    """

    __slots__ = ("_items", "_read_until", "put")

    def __init__(self, read_until: Callable[[Callable[[], object], float], None] | None = None):
        self._items: Mailbox[T] = Mailbox()
        self._read_until = read_until
        self.put = self._items.put

    async def get(self, deadline: float) -> T:
        """Remove and return the oldest item; see `Inbox.get`."""
        if self._read_until is not None:
            self._read_until(self._items.qsize, deadline)
        return self._items.get(time_left(deadline))

    def another(self) -> ThreadInbox[Any]:
        """Return an empty one, whose items do not come over the same connection."""
        return ThreadInbox()


def run_on_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for a `ThreadInbox`, or for nothing; return its result.

    Raises:
        RuntimeError: it awaits something else, which only an asyncio loop can run.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        coroutine.close()
    raise RuntimeError("a callback that is a coroutine function needs the connector for asyncio")
