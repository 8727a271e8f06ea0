"""How much may be on its way at a time; whoever has more awaits its turn."""

from __future__ import annotations

import asyncio
from collections import deque

from neon_mq_connector.errors import WaitTimeoutError


class Room:
    """Places that are taken and given back, in the order in which they were asked for.

    Owned by one asyncio loop: nothing here is for other threads.

    Args:
        size: how many places there are.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._size - self._free

    def take_now(self) -> bool:
        """Take a place if there is one and nobody waits for it.

        Returns:
            Whether it was taken.
        """
        if not self._free or self._waiters:
            return False
        self._free -= 1
        return True

    async def take(self, timeout: float) -> None:
        """Take a place, and wait for it.

        Args:
            timeout: how long to wait at most, in seconds.

        Raises:
            WaitTimeoutError: there was none in time.
        """
        if self.take_now():
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(max(0.0, timeout), _expire, waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back()  # it was cancelled when it had its place already
            raise
        finally:
            timer.cancel()

    def give_back(self) -> None:
        """Let somebody else have a place."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(WaitTimeoutError("too much is unconfirmed"))
