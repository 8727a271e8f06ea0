"""Sending for coroutines: by the calling thread, or in their order by a thread that may wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from neon_mq_connector.aio.futures import LoopFuture
from neon_mq_connector.aio.loops import CoroutineLoop
from neon_mq_connector.connections import Connections
from neon_mq_connector.errors import MQError
from neon_mq_connector.link import Answer
from neon_mq_connector.publishing.encoded_message import EncodedMessage
from neon_mq_connector.publishing.message import Destination, Flush, Message
from neon_mq_connector.publishing.publisher import Publisher
from neon_mq_connector.threads.on_demand import OnDemandThread

T = TypeVar("T")

#: So many messages of one round of the loop are written at once.
_TOGETHER = 32
#: How much later than the publisher a wait for a message ends that waits to be sent, in seconds.
_GRACE = 1.0


class Outbox(OnDemandThread):
    """Send and do things for coroutines, without waiting; any thread may call its methods.

    A message is sent by the calling thread when there is a connection and room. The thread does
    everything else, and sends all messages behind one that has to wait.
    """

    def __init__(self, connections: Connections, name: str) -> None:
        super().__init__(name)
        self._connections = connections

    def send(
        self,
        message: Message,
        answer: Answer[None],
        *,
        timeout: float,
        flush: Flush = Flush.NOW,
        publisher: Publisher | None = None,
    ) -> bool:
        """Publish a message after those before it; return whether it was published at once.

        Args:
            message: what to publish.
            answer: gets the confirm, or the error that there is none.
            timeout: how long the message may wait for a connection and for room, in seconds.
            flush: when to write it, if it need not wait.
            publisher: what publishes it; by default that of the connections.

        Raises:
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
            StoppedError: the connections are closed.
        """
        deadline = time.monotonic() + timeout
        publisher = publisher or self._connections.publisher
        if not self.is_busy and publisher.post_at_once(message, answer, deadline, flush):
            return True
        self.call(partial(_post, publisher, message, answer, deadline))
        return False

    def run(self, function: Callable[[], T], answer: Answer[T]) -> None:
        """Call a function that waits for the broker; an answer gets what it returns or raises."""

        def call() -> None:
            try:
                answer.resolve(function())
            except BaseException as error:  # it belongs to the coroutine
                answer.fail(error)

        self.call(call)


class WriteRound:
    """Write what one round of the loop sends: the first message at once, the rest at its end."""

    def __init__(self, loop: CoroutineLoop, write: Callable[[], object]) -> None:
        self._loop = loop
        self._write = write
        self._held = 0
        self._ends_soon = False

    def next_flush(self) -> Flush:
        """Return when to write the next message."""
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


class AsyncSender(Outbox):
    """Send messages for the coroutines of one loop, and await the broker's confirms."""

    def __init__(self, connections: Connections, name: str, loop: CoroutineLoop) -> None:
        super().__init__(connections, name)
        self._loop = loop
        self._round = WriteRound(loop, lambda: connections.publisher.write_out())

    async def send_and_wait(
        self, destination: Destination, encoded: EncodedMessage, *, timeout: float
    ) -> str:
        """Send a message, await its confirm, and return its id.

        What is missing at the destination is declared. To cancel the wait does not cancel the
        sending.

        Raises:
            PublishError: the broker did not confirm it; see ``may_have_arrived``.
            TopologyError: the broker refused a declare.
        """
        message = destination.message(encoded)
        confirm: LoopFuture[None] = LoopFuture(self._loop)
        flush = self._round.next_flush()
        late = partial(self._connections.publisher.unconfirmed_in_time, message, timeout)
        is_sent = self.send(message, confirm, timeout=timeout, flush=flush)
        # a message that is not sent in time fails with the reason, a little later
        await confirm.wait(timeout if is_sent else timeout + _GRACE, late)
        return encoded.message_id


def _post(publisher: Publisher, message: Message, answer: Answer[None], deadline: float) -> None:
    try:
        publisher.post(message, answer, deadline, Flush.NOW)
    except BaseException as error:  # it belongs to the coroutine
        answer.fail(error)
