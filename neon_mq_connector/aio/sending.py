"""Sending messages from coroutines, each awaited until the broker has it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

from neon_mq_connector.aio.blocking import BlockingCalls
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.room import Room
from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import PublishTimeoutError, StoppedError, WaitTimeoutError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination, Flush, Message

#: How many messages of one loop may wait for their confirm; who has more awaits it.
MAX_ON_THE_WAY = 1024
#: So many messages of one round of the loop are written at once.
_TOGETHER = 32
#: How much later than the publisher itself a wait for it ends, in seconds.
_GRACE = 1.0


class AsyncSender:
    """Send over one connection, from the coroutines of one loop; nothing here is for other threads.

    Args:
        connections: of the virtual host.
        loop: where the coroutines run.
        calls: makes the calls that wait for the broker.
    """

    def __init__(self, connections: Connections, loop: CoroutineLoop, calls: BlockingCalls) -> None:
        self._connections = connections
        self._loop = loop
        self._calls = calls
        self._room = Room(MAX_ON_THE_WAY)
        self._unwritten = 0
        self._write_is_due = False

    async def send(
        self, destination: Destination, encoded: EncodedMessage, *, timeout: float
    ) -> str:
        """Send a message and await its confirm; when that is cancelled, it is sent all the same.

        Args:
            destination: where it goes; what is missing there is declared.
            encoded: the message.
            timeout: how long to wait, in seconds.

        Returns:
            The message's id.

        Raises:
            PublishError: the broker did not confirm it; see ``may_have_arrived``.
            TopologyError: the broker refused a declare.
        """
        deadline = time.monotonic() + timeout
        message, publisher = destination.message(encoded), self._connections.publisher
        try:
            if publisher.needs_declare(message):
                await self._calls.share(
                    (self._connections, destination),
                    partial(self._declare, message),
                    timeout=timeout,
                    what=f"declaring exchange {destination.exchange!r}",
                )
                message = message._replace(declare_first=False)
            if not self._room.take_now():
                await self._room.take(time_left(deadline))
        except WaitTimeoutError as error:
            raise PublishTimeoutError(
                f"{message}: not sent: {error}", may_have_arrived=False
            ) from error
        confirm = _Confirm(self._loop, self._room)
        try:
            if not self._post_at_once(message, confirm, deadline):
                await self._post(message, confirm, deadline)
            await self._confirmed(confirm.future, message, deadline, timeout)
        finally:
            confirm.future.cancel()  # where it was not awaited to its end
        return encoded.message_id

    def _declare(self, message: Message) -> None:
        deadline = time.monotonic() + self._connections.policy.operation_timeout
        self._connections.publisher.declare(message, deadline)

    def _post_at_once(self, message: Message, confirm: _Confirm, deadline: float) -> bool:
        flush = Flush.NOW
        if self._write_is_due:
            # what follows in this round of the loop is written at its end
            self._unwritten += 1
            if self._unwritten < _TOGETHER:
                flush = Flush.HELD
            else:
                self._unwritten = 0
        try:
            posted = self._connections.publisher.post_at_once(message, confirm, deadline, flush)
        except BaseException:
            confirm.give_place_back()
            raise
        if posted and not self._write_is_due:
            self._write_is_due = True
            self._loop.loop.call_soon(self._write)
        return posted

    def _write(self) -> None:
        self._write_is_due = False
        if self._unwritten:
            self._unwritten = 0
            with suppress(StoppedError):  # closed: what was held back has failed
                self._connections.publisher.write_out()

    async def _post(self, message: Message, confirm: _Confirm, deadline: float) -> None:
        """Send where a connection, or room, may be waited for."""
        confirm.give_place_back()
        publisher = self._connections.publisher
        try:
            await self._calls.run(
                partial(publisher.post, message, confirm, deadline, Flush.NOW),
                timeout=time_left(deadline) + _GRACE,
                what="sending it",
            )
        except WaitTimeoutError as error:
            raise PublishTimeoutError(f"{message}: {error}", may_have_arrived=True) from error

    async def _confirmed(
        self, future: asyncio.Future[None], message: Message, deadline: float, timeout: float
    ) -> None:
        timer = self._loop.loop.call_later(time_left(deadline), _expire, future)
        try:
            await future
        except WaitTimeoutError:
            raise self._connections.publisher.unconfirmed_in_time(message, timeout) from None
        finally:
            timer.cancel()


class _Confirm:
    """What becomes of a message: told on any thread, awaited on the loop.

    Args:
        loop: where it is awaited.
        room: where the message has a place until its end.

    Attributes:
        future: done when the broker has the message.
    """

    __slots__ = ("_loop", "_room", "future")

    def __init__(self, loop: CoroutineLoop, room: Room) -> None:
        self._loop = loop
        self._room: Room | None = room
        self.future: asyncio.Future[None] = loop.loop.create_future()

    def resolve(self, _value: None) -> None:
        """Take the confirm."""
        self._tell(None)

    def fail(self, error: BaseException) -> None:
        """Take the failure."""
        self._tell(error)

    def give_place_back(self) -> None:
        """Have no place any more."""
        room, self._room = self._room, None
        if room is not None:
            room.give_back()

    def _tell(self, error: BaseException | None) -> None:
        with suppress(StoppedError):  # whoever awaits it is gone with its loop
            self._loop.call(self._settle, error)

    def _settle(self, error: BaseException | None) -> None:
        self.give_place_back()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(WaitTimeoutError("no confirm"))
