"""Calls of one pika channel: made on the I/O thread, waited for by the thread that asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pika.channel
from pika.exceptions import ChannelWrongStateError
from pika.spec import Basic

from neon_mq_connector.errors import ChannelShutError, MQError
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.waiter import Waiter

LOG = logging.getLogger("neon_mq_connector.link")

#: Calls a method of a pika channel, and has the answer given to the second argument.
Operation = Callable[[pika.channel.Channel, Callable[[Any], None]], object]


class ChannelCalls:
    """The calls of one channel that wait for an answer of the broker.

    All but the lock is owned by the I/O thread.

    Args:
        link: the connection that the channel is on.
        on_failure: called before the channel is closed for an operation that failed.

    Attributes:
        error: why the channel is shut; None while it is not. Read by any thread.
    """

    def __init__(self, link: IOThread, *, on_failure: Callable[[], object]) -> None:
        self.error: MQError | None = None
        self._link = link
        self._on_failure = on_failure
        self._channel: pika.channel.Channel | None = None
        self._waiters: set[Waiter[Any]] = set()
        self._getting = threading.Lock()
        self._got: Callable[[Any], None] | None = None
        self._hears_of_empty = False

    # -- any thread ----------------------------------------------------------------------------

    def call(
        self,
        what: str,
        operation: Operation,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> Any:
        """Run an operation on the I/O thread and return its answer, as `LinkChannel` says."""
        waiter = waiter or Waiter()
        self._link.submit(lambda: self._begin(operation, waiter))
        return waiter.wait(timeout, f"{self._link.name}: {what}")

    def get(
        self, queue: str, auto_ack: bool, fetched: Callable[[int], None], timeout: float
    ) -> tuple[Any, Any, Any]:
        """Take one message from a queue: see `LinkChannel.get`."""

        def begin(channel: pika.channel.Channel, done: Callable[[Any], None]) -> None:
            self._got = done
            if not self._hears_of_empty:
                self._hears_of_empty = True
                channel.add_callback(
                    lambda _frame: self._end_get(None, None, None), [Basic.GetEmpty], False
                )

            def got(_channel: object, method: Basic.GetOk, properties: Any, body: bytes) -> None:
                if not auto_ack and method.delivery_tag is not None:
                    fetched(method.delivery_tag)
                self._end_get(method, properties, body)

            channel.basic_get(queue, got, auto_ack=auto_ack)

        with self._getting:  # an answer does not say which get it is for
            answer: tuple[Any, Any, Any] = self.call(f"get from queue {queue!r}", begin, timeout)
            return answer

    # -- I/O thread ----------------------------------------------------------------------------

    @property
    def channel(self) -> pika.channel.Channel:
        """The pika channel."""
        if self._channel is None:
            raise ChannelShutError(f"{self._link.name}: the channel was never opened")
        return self._channel

    def use(self, channel: pika.channel.Channel) -> None:
        """Use a pika channel from here on."""
        self._channel = channel

    def expect(self, waiter: Waiter[Any]) -> None:
        """Fail a waiter if the channel is shut before `answered` is called."""
        self._waiters.add(waiter)

    def answered(self, waiter: Waiter[Any], answer: Any) -> bool:
        """Resolve a waiter; return whether it was still waiting."""
        self._waiters.discard(waiter)
        return waiter.resolve(answer)

    def perform(self, operation: Callable[[pika.channel.Channel], object]) -> None:
        """Run an operation whose answer nothing waits for."""
        if self.error is not None:
            return  # the shut event has told, or will tell, everything that waits
        try:
            operation(self.channel)
        except ChannelWrongStateError:
            return  # closing: the shut event follows
        except Exception:
            # it is not known what was done
            LOG.exception("%s: an operation failed, the channel is closed", self._link.name)
            self._on_failure()
            self.channel.close()

    def end(self, error: MQError) -> None:
        """Fail all calls: the channel is shut."""
        self.error = error
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.fail(error)

    def _begin(self, operation: Operation, waiter: Waiter[Any]) -> None:
        if self.error is not None:
            waiter.fail(self.error)
            return
        self.expect(waiter)

        def done(answer: Any) -> None:
            self.answered(waiter, answer)

        try:
            operation(self.channel, done)
        except Exception as error:  # of the caller, not of this thread
            self._waiters.discard(waiter)
            waiter.fail(error)

    def _end_get(self, method: Any, properties: Any, body: Any) -> None:
        got, self._got = self._got, None
        if got is not None:
            got((method, properties, body))
