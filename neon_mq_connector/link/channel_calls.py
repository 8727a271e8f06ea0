"""What a channel reports, and its calls: a thread asks and waits, the I/O thread makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pika.channel
import pika.frame
from pika.spec import Basic, BasicProperties

from neon_mq_connector.errors import MQError
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.parser import RawDelivery
from neon_mq_connector.link.translate import broker_refusal
from neon_mq_connector.link.waiter import Answer, Waiter
from neon_mq_connector.topology import Call, QueueStatus, Step


def ignore(*_: object) -> None:
    """Ignore an event or an answer."""


@dataclass(frozen=True)
class ChannelEvents:
    """What a channel reports, each on the I/O thread, in the order in which it happened.

    They must not block and must not raise: the thread serves every queue of its virtual host.

    Attributes:
        deliveries: messages in a batch, in order, as they came; `decode_delivery` reads them.
        fetched: the delivery tag of a message that `get` took and that has to be settled.
        confirms: (delivery tag, multiple, nacked) for messages published in confirm mode.
        returned: (method, properties, body) of an unroutable message; its confirm follows.
        cancelled: the broker cancelled the consumer (its queue was deleted, or moved).
        shut: the channel is shut, and why; the last event, and it comes exactly once.
    """

    deliveries: Callable[[Sequence[RawDelivery]], None] = ignore
    fetched: Callable[[int], None] = ignore
    confirms: Callable[[int, bool, bool], None] = ignore
    returned: Callable[[Basic.Return, BasicProperties, bytes], None] = ignore
    cancelled: Callable[[str], None] = ignore
    shut: Callable[[MQError], None] = ignore


class ChannelCalls:
    """The calls of one channel that wait for an answer of the broker.

    Arguments and errors that its methods have in common:

    * ``timeout``: how long to wait for the answer, in seconds.
    * ``waiter``: where the answer goes; another thread may end the wait by failing it.
    * ChannelShutError, ConnectionLostError: the channel ended first. Where the broker has closed
      it, pika's exception is the cause.
    * WaitTimeoutError: no answer in time.

    All but the lock is owned by the I/O thread.

    Attributes:
        link: the connection that the channel is on.
        error: why the channel is shut; None while it is not. Read by any thread.
        confirms: where the parser puts confirms; None when the channel is not in confirm mode.
    """

    _pika: pika.channel.Channel  # from the moment when the channel is asked for

    def __init__(self, link: IOThread, events: ChannelEvents) -> None:
        self.link = link
        self.error: MQError | None = None
        self.confirms: Callable[[int, bool, bool], None] | None = None
        self._events = events
        self._waiters: set[Answer[Any]] = set()
        self._getting = threading.Lock()
        self._got: Callable[[Any], None] | None = None

    # -- any thread ----------------------------------------------------------------------------

    def wait_for(
        self,
        what: str,
        begin: Callable[[Callable[[Any], None]], object],
        *,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> Any:
        """Call a function on the I/O thread and wait until it reports an answer.

        Args:
            what: what is waited for, for the message of an error.
            begin: called with a function to give the answer to.
        """
        waiter = waiter or Waiter()
        self.link.submit(lambda: self._begin(begin, waiter))
        return waiter.wait(timeout, f"{self.link.name}: {what}")

    def perform(
        self, step: Step, *, timeout: float, waiter: Waiter[Any] | None = None
    ) -> QueueStatus:
        """Perform a step on this connection, as those on an exclusive queue have to be.

        Returns:
            The status of the queue, for a declare of one.

        Raises:
            Refusal: the broker said no, and has closed the channel or the connection.
        """
        waiter = waiter or Waiter()
        self.link.submit(lambda: self.begin_call(step, waiter))
        try:
            answer = waiter.wait(timeout, f"{self.link.name}: {step}")
        except MQError as error:
            refusal = broker_refusal(error)
            if refusal is None:
                raise
            raise refusal from refusal.__cause__
        return QueueStatus.of(answer)

    def consume(
        self,
        queue: str,
        *,
        prefetch_count: int = 0,
        auto_ack: bool = False,
        arguments: Mapping[str, Any] | None = None,
        started: Callable[[str], object] = ignore,
        timeout: float,
        waiter: Waiter[Any] | None = None,
    ) -> str:
        """Start a consumer; its messages go to the `deliveries` event.

        Args:
            queue: what to consume from.
            prefetch_count: how many unacknowledged messages the broker may send ahead to it; 0 for
                any number.
            auto_ack: whether messages count as acknowledged when they are sent.
            arguments: of the consume, such as ``x-priority``.
            started: called on the I/O thread with the consumer tag, before the first message.

        Returns:
            The consumer tag.
        """

        def begin(done: Callable[[Any], None]) -> None:
            def has_started(consumer_tag: str) -> None:
                started(consumer_tag)
                done(consumer_tag)

            self._consume(queue, prefetch_count, auto_ack, arguments, has_started)

        what = f"consuming from queue {queue!r}"
        tag: str = self.wait_for(what, begin, timeout=timeout, waiter=waiter)
        return tag

    def get(self, queue: str, auto_ack: bool, *, timeout: float) -> tuple[Any, Any, Any]:
        """Take one message from a queue.

        Returns:
            pika's ``(method, properties, body)``, three times None when the queue is empty.
        """

        def begin(done: Callable[[Any], None]) -> None:
            self._got = done

            def got(_channel: object, method: Basic.GetOk, properties: Any, body: bytes) -> None:
                if not auto_ack and method.delivery_tag is not None:
                    self._events.fetched(method.delivery_tag)
                self._end_get(method, properties, body)

            self._pika.basic_get(queue, got, auto_ack=auto_ack)

        with self._getting:  # an answer does not say which get it is for
            answer: tuple[Any, Any, Any] = self.wait_for(
                f"get from queue {queue!r}", begin, timeout=timeout
            )
            return answer

    def confirm(self, *, timeout: float) -> None:
        """Enter confirm mode: the broker confirms each message that is published from here on."""
        self.confirms = self._events.confirms
        self.wait_for(
            "selecting publisher confirms",
            # confirms do not reach pika
            lambda done: self._pika.confirm_delivery(ignore, callback=done),
            timeout=timeout,
        )

    # -- I/O thread ----------------------------------------------------------------------------

    def begin_call(self, call: Call, answer: Answer[Any]) -> None:
        """Make a call; the answer gets pika's frame."""
        method = getattr(self._pika, call.method)
        self._begin(lambda done: method(*call.args, **call.kwargs, callback=done), answer)

    def _begin(self, begin: Callable[[Callable[[Any], None]], object], waiter: Answer[Any]) -> None:
        if self.error is not None:
            waiter.fail(self.error)
            return
        self._waiters.add(waiter)

        def done(answer: Any) -> None:
            self._answer(waiter, answer)

        try:
            begin(done)
        except Exception as error:  # of the caller, not of this thread
            self._waiters.discard(waiter)
            waiter.fail(error)

    def _answer(self, waiter: Answer[Any], answer: Any) -> bool:
        """Resolve a waiter; return whether it was still waiting."""
        self._waiters.discard(waiter)
        return bool(waiter.resolve(answer))

    def _end_get(self, method: Any, properties: Any, body: Any) -> None:
        got, self._got = self._got, None
        if got is not None:
            got((method, properties, body))

    def _consume(
        self,
        queue: str,
        prefetch_count: int,
        auto_ack: bool,
        arguments: Mapping[str, Any] | None,
        started: Callable[[str], object],
    ) -> None:
        if prefetch_count:
            self._pika.basic_qos(prefetch_count=prefetch_count, callback=ignore)

        def answered(frame: pika.frame.Method[Basic.ConsumeOk]) -> None:
            started(frame.method.consumer_tag)

        self._pika.basic_consume(
            queue,
            ignore,  # messages do not reach pika
            auto_ack=auto_ack,
            arguments=dict(arguments or {}),
            callback=answered,
        )
