"""The channel and the connection that callbacks get which are functions: operations are waited for.

They look like pika's and serve both of its styles: that of `BlockingConnection`, whose methods
return what they have done, and that of `SelectConnection`, whose methods are given what to call
then. What is given is called before the method returns, in the calling thread; so a callback that
fails in it has failed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pika.frame
from pika.spec import Basic, BasicProperties, Confirm

from neon_mq_connector.consumers.broker_operations import FrameCallback
from neon_mq_connector.consumers.delivery_channel import DeliveryChannel
from neon_mq_connector.consumers.delivery_connection import DeliveryConnection
from neon_mq_connector.consumers.pika_errors import as_pika_raises
from neon_mq_connector.consumers.reply_route import ReplyRoute
from neon_mq_connector.consumers.session import CloseCallback, Session
from neon_mq_connector.control.connection import ControlConnection
from neon_mq_connector.errors import (
    MQConnectionError,
    PublishRejectedError,
    PublishTimeoutError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import Delivery
from neon_mq_connector.publishing.message import Flush, Message
from neon_mq_connector.threads.guard import Guard
from neon_mq_connector.topology import Refusal


class CallbackChannel(DeliveryChannel[Any, None]):
    """Stand in for the pika channel of one delivery, in callbacks that are functions.

    Args:
        session: the generation of the consuming channel.
        delivery: the message; None for none.
        route: how it may be answered directly.
    """

    __slots__ = ("_confirms",)

    _done = None

    def __init__(
        self,
        session: Session,
        delivery: Delivery | None = None,
        route: ReplyRoute | None = None,
    ) -> None:
        self._session = session
        self.delivery = delivery
        self.message = None
        self.route = route
        self.has_answered = False
        self._closed = False
        self._request = None
        self._publishes = None
        self._answers_here = None
        self._reader = None
        self.has_acked = False
        self._confirms: _Confirms | None = None

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
        """Have `basic_publish` wait for the broker's confirm, as pika's blocking channel does.

        Args:
            ack_nack_callback: called with the frame of each confirm; a nack raises all the same.
            callback: called when that is so.
        """
        self._confirms = _Confirms(ack_nack_callback)
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
        if self._confirms is None:
            self._publish(message)
        else:
            self._confirms.publish(self._session, message, self._timeout)

    def _publish(self, message: Message) -> None:
        if self._may_answer_here(message) and self._answer_here(message):
            return
        session = self._session
        publisher = session.connections.publisher
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
        self._session.report_publish(error)

    def _answer_here(self, message: Message) -> bool:
        try:
            self._session.answer(message, self._timeout)
        except WaitTimeoutError as error:
            raise PublishTimeoutError(
                f"{message}: not sent: {error}", may_have_arrived=False
            ) from error
        except MQConnectionError:
            # the request comes again; as with every session that is over, the answer is sent
            self._answers_here = False
            return False
        return True

    # -- operations that are waited for --------------------------------------------------------

    def _submit(
        self,
        what: str,
        job: Callable[[ControlConnection], Any],
        callback: Callable[[Any], object] | None = None,
    ) -> Any:
        control = self._session.connections.control
        return self._run(what, partial(control.run, what, job, timeout=self._timeout), callback)

    def _run(
        self,
        what: str,
        function: Callable[[], Any],
        callback: Callable[[Any], object] | None = None,
    ) -> Any:
        try:
            answer = function()
        except (WaitTimeoutError, Refusal) as error:
            raise as_pika_raises(error) from None
        return self._answered(what, answer, callback)

    def _answered(self, what: str, answer: Any, callback: Callable[[Any], object] | None) -> Any:
        if callback is not None:
            callback(answer)
        return answer


class FurtherChannel(CallbackChannel):
    """A channel on which nothing is consumed."""

    __slots__ = ()
    _closes_alone = True


class CallbackConnection(DeliveryConnection[CallbackChannel, None]):
    """Stand in for the connection of one consumer, in callbacks that are functions.

    `_calls` and `_on_close` are deques, which any thread may append to; the consumer's thread takes
    from them.

    Args:
        session: the generation of its channel.
    """

    _done = None

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._calls: deque[Callable[[], object]] = deque()
        self._called = threading.Event()
        self._on_close: deque[CloseCallback] = deque()

    def _new_channel(self) -> CallbackChannel:
        return FurtherChannel(self._session)

    @property
    def has_close_callbacks(self) -> bool:
        """Whether there is something to call when the consumer is detached."""
        return bool(self._on_close)

    @property
    def ioloop(self) -> CallbackConnection:
        """What has the methods for calls of a `SelectConnection`'s loop: this object."""
        return self

    # -- calls for the consumer's thread -------------------------------------------------------

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        """Have the consumer's thread call something between two messages."""
        self._calls.append(callback)
        self._called.set()
        self._session.wake()

    add_callback = add_callback_threadsafe

    def call_later(self, delay: float, callback: Callable[[], object]) -> threading.Timer:
        """Have the consumer's thread call something after a delay in seconds."""
        timer = threading.Timer(delay, self.add_callback_threadsafe, (callback,))
        timer.daemon = True
        timer.start()
        return timer

    def process_data_events(self, time_limit: float | None = 0) -> None:
        """Call what `add_callback_threadsafe` was given; heartbeats need no help.

        Args:
            time_limit: how long to wait for something to call, in seconds; None for until there is
                something, a minute at most.
        """
        deadline = time.monotonic() + (60.0 if time_limit is None else max(0.0, time_limit))
        while not self.run_calls():
            left = deadline - time.monotonic()
            if left <= 0 or not self._called.wait(left):
                return

    def sleep(self, duration: float) -> None:
        """Wait while calling what `add_callback_threadsafe` is given.

        Args:
            duration: seconds.
        """
        deadline = time.monotonic() + duration
        while (left := deadline - time.monotonic()) > 0:
            self._called.wait(left)
            self.run_calls()

    def run_calls(self) -> bool:
        """Call what waits to be called.

        Returns:
            Whether there was anything.
        """
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
        """Have the consumer's thread call something once, when this is closed.

        Args:
            callback: called with this connection and the reason, an `MQError` as a rule.
        """
        self._on_close.append(callback)

    def closed(self, reason: BaseException) -> None:
        """Call what is to be called when this is closed; on the consumer's thread."""
        while self._on_close:
            callback = self._on_close.popleft()
            with Guard("queue %r: a call at the end of its connection", self._session.queue):
                callback(self, reason)


def add_stand_ins(session: Session) -> Session:
    """Give a session the channel and the connection that users see of it."""
    session.connection = CallbackConnection(session)
    session.channel = CallbackChannel(session)
    return session


class _Confirms:
    """The confirms of one channel, each of which is waited for; used by one thread at a time."""

    __slots__ = ("_callback", "_count")

    def __init__(self, callback: FrameCallback | None) -> None:
        self._callback = callback
        self._count = 0

    def publish(self, session: Session, message: Message, timeout: float) -> None:
        """Publish and wait for the confirm, and tell of it."""
        try:
            session.connections.publisher.publish(message, timeout=timeout)
        except UnroutableError as error:
            raise as_pika_raises(error) from error
        except PublishRejectedError as error:
            self._tell(Basic.Nack)
            raise as_pika_raises(error) from error
        self._tell(Basic.Ack)

    def _tell(self, kind: type[Basic.Ack | Basic.Nack]) -> None:
        self._count += 1
        if self._callback is not None:
            self._callback(pika.frame.Method(1, kind(self._count)))
