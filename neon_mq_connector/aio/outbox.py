"""What coroutines want done and what may have to wait: done in order, without holding up the loop.

A message is sent by the calling thread when there is a connection and room. All else, and all
messages behind one that has to wait, is done by a thread of its own, one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from neon_mq_connector.connections import Connections
from neon_mq_connector.publishing.message import Answer, Flush, Message
from neon_mq_connector.threads.errands import Errands


class Taker(Protocol):
    """Who is told the end of something; on any thread."""

    def resolve(self, value: Any) -> object: ...

    def fail(self, error: BaseException) -> object: ...


class Outbox:
    """Send and do things for coroutines, without waiting; any thread may call its methods.

    Args:
        connections: of the virtual host.
        name: of the thread. It starts when something has to wait, and ends when nothing has.
    """

    def __init__(self, connections: Connections, name: str) -> None:
        self._connections = connections
        self._errands = Errands(name)

    @property
    def is_idle(self) -> bool:
        """Whether all is done that was given."""
        return not self._errands.is_busy

    def send(
        self, message: Message, answer: Answer, *, timeout: float, flush: Flush = Flush.NOW
    ) -> bool:
        """Publish a message after those that were given before.

        Args:
            message: what to publish.
            answer: told of the confirm, or why there is none.
            timeout: how long the message may wait for a connection and for room, in seconds.
            flush: when it is to be written, if it need not wait.

        Returns:
            Whether it was published at once.

        Raises:
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
            StoppedError: the connections are closed.
        """
        deadline = time.monotonic() + timeout
        publisher = self._connections.publisher
        if not self._errands.is_busy and publisher.post_at_once(message, answer, deadline, flush):
            return True
        self._errands.call(partial(self._post, message, answer, deadline))
        return False

    def run(self, function: Callable[[], object], answer: Taker) -> None:
        """Have a function called that waits for the broker.

        Args:
            function: what to call.
            answer: gets what it returns or raises.
        """
        self._errands.call(partial(_run, function, answer))

    def wait_until_done(self, timeout: float) -> bool:
        """Wait until all is done that was given.

        Args:
            timeout: how long at most, in seconds.

        Returns:
            Whether it is.
        """
        return self._errands.wait_until_done(timeout)

    # -- the thread ----------------------------------------------------------------------------

    def _post(self, message: Message, answer: Answer, deadline: float) -> None:
        try:
            self._connections.publisher.post(message, answer, deadline, Flush.NOW)
        except BaseException as error:  # it belongs to the coroutine
            answer.fail(error)


def _run(function: Callable[[], object], answer: Taker) -> None:
    try:
        result = function()
    except BaseException as error:  # it belongs to the coroutine
        answer.fail(error)
    else:
        answer.resolve(result)
