"""Sending messages from coroutines, each awaited until the broker has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.aio.outbox import Outbox
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQError
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination, Flush

#: So many messages of one round of the loop are written at once.
_TOGETHER = 32
#: How much later than the publisher a wait for a message ends that waits to be sent, in seconds.
_GRACE = 1.0


class WriteRound:
    """Write what is sent in one round of the loop together: the first at once, the rest at its end.

    Args:
        loop: the loop.
        write: writes what was held back.
    """

    def __init__(self, loop: CoroutineLoop, write: Callable[[], object]) -> None:
        self._loop = loop
        self._write = write
        self._held = 0
        self._ends_soon = False

    def next_flush(self) -> Flush:
        """Return when the next message is to be written."""
        if not self._ends_soon:
            self._ends_soon = True
            self._loop.loop.call_soon(self._end)
            return Flush.NOW
        self._held = (self._held + 1) % _TOGETHER
        return Flush.HELD if self._held else Flush.NOW

    def _end(self) -> None:
        self._ends_soon = False
        if self._held:
            self._held = 0
            with suppress(MQError):  # closed: what was held back has failed
                self._write()


class AsyncSender:
    """Send over one connection, from the coroutines of one loop; nothing here is for other threads.

    Args:
        connections: of the virtual host.
        loop: where the coroutines run.
        name: of the thread that sends what has to wait.
    """

    def __init__(self, connections: Connections, loop: CoroutineLoop, name: str) -> None:
        self.outbox = Outbox(connections, name)
        self._connections = connections
        self._loop = loop
        self._round = WriteRound(loop, lambda: connections.publisher.write_out())

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
        message, confirm = destination.message(encoded), LoopFuture[None](self._loop)
        flush = self._round.next_flush()
        late = partial(self._connections.publisher.unconfirmed_in_time, message, timeout)
        if self.outbox.send(message, confirm, timeout=timeout, flush=flush):
            await confirm.wait(timeout, late)
        else:
            # where it is not sent in time the publisher says why
            await confirm.wait(timeout + _GRACE, late)
        return encoded.message_id
