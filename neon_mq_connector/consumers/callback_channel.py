"""The channel and the connection of callbacks that are functions.

They look like pika's and serve both of its styles: methods return the broker's answer, as those of
a `BlockingConnection` do, and call a ``callback`` with it, as those of a `SelectConnection` do. It
is called before the method returns, in the calling thread: what it raises fails the message.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pika.frame
from pika.spec import Basic, BasicProperties, Confirm

from neon_mq_connector.consumers.broker_operations import (
    FrameCallback,
    ResultCallback,
    as_pika_raises,
)
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel
from neon_mq_connector.consumers.delivery_connection import DeliveryConnection
from neon_mq_connector.consumers.session import CloseCallback, Session
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    MQConnectionError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import ignore
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.topology import Refusal


class CallbackChannel(DeliveryChannel):
    """Stand in for the pika channel of one delivery, in callbacks that are functions."""

    _done = None
    #: Told of each confirm by its kind; None where publishes are not waited for.
    _confirmed: Callable[[type[Basic.Ack | Basic.Nack]], object] | None = None

    @property
    def connection(self) -> CallbackConnection:
        """A stand-in for the connection."""
        connection: CallbackConnection = self._session.connection
        return connection

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        callback(*arguments)

    # -- publishing ----------------------------------------------------------------------------

    def confirm_delivery(
        self,
        ack_nack_callback: FrameCallback | None = None,
        callback: FrameCallback | None = None,
    ) -> None:
        """Make `basic_publish` wait for the broker's confirm, as pika's blocking channel does.

        Args:
            ack_nack_callback: called with the frame of each confirm; a nack raises all the same.
            callback: called with pika's frame, before this returns.
        """
        tell, numbers = ack_nack_callback or ignore, itertools.count(1)
        self._confirmed = lambda kind: tell(pika.frame.Method(1, kind(next(numbers))))
        if callback is not None:
            callback(pika.frame.Method(1, Confirm.SelectOk()))

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        """Publish; the broker does not get an ack of this callback before it has the message.

        That is confirmed by the broker, but for answers that leave by the channel of their request.
        A message for a queue that does not exist has it declared. The answer to a request that
        came with a direct reply-to goes there.

        Raises:
            pika.exceptions.ChannelClosedByBroker: the exchange does not exist.
            PublishError: there is no connection to publish on.
            pika.exceptions.UnroutableError, pika.exceptions.NackError: after `confirm_delivery`.
        """
        message = self._message(exchange, routing_key, body, properties, mandatory)
        if self._confirmed is None:
            self._publish(message)
            return
        try:
            self._session.connections.publisher.publish(message, timeout=self._timeout)
        except PublishRejectedError as error:
            self._confirmed(Basic.Nack)
            raise as_pika_raises(error) from error
        except UnroutableError as error:
            raise as_pika_raises(error) from error
        self._confirmed(Basic.Ack)

    def _publish(self, message: Message) -> None:
        session = self._session
        if self._may_answer_here(message):
            try:
                session.answer(message, self._timeout)
            except WaitTimeoutError as error:
                what = f"{message}: not sent: {error}"
                raise PublishTimeoutError(what, may_have_arrived=False) from error
            except MQConnectionError:
                # the request comes again; as with every session that is over, the answer is sent
                self._answers_here = False
            else:
                return
        publisher = self._publisher(message)
        publishes = self._expect_confirm()
        try:
            # with the answers of the callbacks that follow at once; however long they take, the
            # I/O thread sends it within some milliseconds
            flush = Flush.SOON if session.more_follows else Flush.NOW
            publisher.post(message, publishes, time.monotonic() + self._timeout, flush)
        except BaseException:
            publishes.resolve(None)  # there is nothing that an ack would have to wait for
            raise

    def _report(self, error: BaseException) -> None:
        self._session.host.report(error)

    # -- operations that are waited for --------------------------------------------------------

    def _run(self, what: str, function: Callable[[], Any], callback: ResultCallback = None) -> Any:
        try:
            answer = function()
        except (WaitTimeoutError, Refusal) as error:
            raise as_pika_raises(error) from None
        return self._answered(what, answer, callback)

    def _answered(self, what: str, answer: Any, callback: ResultCallback) -> Any:
        if callback is not None:
            callback(answer)
        return answer


class CallbackConnection(DeliveryConnection):
    """Stand in for the connection of one consumer, in callbacks that are functions.

    `_calls` and `_on_close` are deques, which any thread may append to; the consumer's thread takes
    from them.
    """

    _done = None

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._calls: deque[Callable[[], object]] = deque()
        self._called = threading.Event()
        self._on_close: deque[CloseCallback] = deque()

    def _new_channel(self) -> CallbackChannel:
        return CallbackChannel(self._session)

    @property
    def has_close_callbacks(self) -> bool:
        """Whether a function is to be called when the consumer is detached."""
        return bool(self._on_close)

    @property
    def ioloop(self) -> CallbackConnection:
        """This object, which has the methods of a `SelectConnection`'s loop that make calls."""
        return self

    # -- calls for the consumer's thread -------------------------------------------------------

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call a function on the consumer's thread, between two messages."""
        self._calls.append(callback)
        self._called.set()
        self._session.host.call_soon(self._run_calls)

    add_callback = add_callback_threadsafe

    def process_data_events(self, time_limit: float | None = 0) -> None:
        """Call the functions that `add_callback_threadsafe` was given.

        Args:
            time_limit: how long to wait for one, in seconds; None for a minute.
        """
        deadline = time.monotonic() + (60.0 if time_limit is None else time_limit)
        while not self.run_calls() and self._called.wait(time_left(deadline)):
            pass

    def sleep(self, duration: float) -> None:
        """Wait for so many seconds, and call the functions that are given meanwhile."""
        deadline = time.monotonic() + duration
        while left := time_left(deadline):
            self._called.wait(left)
            self.run_calls()

    def _run_calls(self) -> None:
        session = self._session
        report = session.host.report
        session.is_calling = True
        with Guard("queue %r: a call for the consumer's thread", session.queue, report=report):
            self.run_calls()
        session.is_calling = False

    def run_calls(self) -> bool:
        """Call the functions that wait; return whether there was one."""
        self._called.clear()
        any_called = False
        while True:
            try:
                callback = self._calls.popleft()
            except IndexError:
                return any_called
            any_called = True
            callback()

    # -- the end -------------------------------------------------------------------------------

    def add_on_close_callback(self, callback: CloseCallback) -> None:
        """Call a function on the consumer's thread when the consumer is detached.

        Args:
            callback: called once, with this connection and the reason, an `MQError` as a rule.
        """
        self._on_close.append(callback)

    def closed(self, reason: BaseException) -> None:
        """Call the functions that wait for the end; on the consumer's thread."""
        while self._on_close:
            callback = self._on_close.popleft()
            with Guard("queue %r: a call at the end of its connection", self._session.queue):
                callback(self, reason)
