"""The request client: requests from any thread, each with its own answer.

One connection and one channel per process, server, user and virtual host. A request can be
answered in two ways: directly (the AMQP property ``reply_to``, RabbitMQ's "Direct Reply-to"), or
through the queue that the body's ``routing_key`` names, for services that know nothing else. On
brokers that permit it that is a plain queue of this client; elsewhere the direct reply-to name
itself, which can be published to like a queue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pika

from neon_mq_connector import tracing
from neon_mq_connector.client.answers import Answers, FutureAnswer
from neon_mq_connector.client.inbox import ThreadInbox, run_on_thread
from neon_mq_connector.client.reply_channel import ReplyChannel, Shared
from neon_mq_connector.client.reply_stream import PartsQueue, ReplyStream
from neon_mq_connector.client.request import RequestSpec
from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import StoppedError, UnroutableError, WaitTimeoutError
from neon_mq_connector.publishing.message import Destination
from neon_mq_connector.threads import forking
from neon_mq_connector.threads.futures import CancellableFuture
from neon_mq_connector.topology import Exchange, Refusal

LOG = logging.getLogger("neon_mq_connector.client")

T = TypeVar("T")

_CLOSE_TIMEOUT = 3.0


class RequestClient:
    """Ask services and wait for their answers, from any thread.

    What is asked is a `RequestSpec`. Errors that its methods have in common:

    * RequestTimeoutError: no answer in time, or no connection: then it says "not sent".
    * RequestLostError: the connection ended; the service may have got the request.
    * UnroutableError: no queue takes the request.
    * PublishRefusedError: the user may not write there, or the request is too large.
    * MQConnectionError: there is no connection.
    * RemoteError: the service has failed, or refuses the request.
    * DecodeError: the answer cannot be read.

    `_opening` owns the current channel and whether the client is closed. It is reentrant: a signal
    handler that stops the service may interrupt its holder.

    Args:
        parameters: one entry per server of the cluster.
        owner: the name of the asking service.

    Attributes:
        owner: the same.
        connections: how to reach the broker.
        is_closed: whether it was closed; it can ask nothing any more.
    """

    def __init__(self, parameters: Sequence[pika.ConnectionParameters], *, owner: str = "") -> None:
        self.owner = owner
        self.connections = Connections(parameters, owner=owner)
        self._shared = Shared(self.connections)
        self._opening = threading.RLock()
        self._channel: ReplyChannel | None = None
        self.is_closed = False
        forking.register(self)

    @property
    def late_replies(self) -> int:
        """How many answers were dropped because no request waited for them."""
        return self._shared.late_replies

    def request(
        self,
        spec: RequestSpec,
        *,
        reply_queue: str | None = None,
        on_part: Callable[[dict[str, Any]], object] | None = None,
        on_reply_queue: Callable[[str], object] | None = None,
    ) -> Any:
        """Send a request and wait for its answer.

        Args:
            reply_queue: have a queue of this name made for the answer, and deleted afterwards.
            on_part: for an answer that comes in parts: called with each of them, the last included.
            on_reply_queue: called with the name that the request carries as ``routing_key``.

        Returns:
            The answer; of one in parts the last, which says ``is_final`` or ``_is_final``.
        """
        with tracing.requesting("", spec.queue):
            channel = self.channel_for(spec)
            if on_reply_queue is not None:
                on_reply_queue(reply_queue or channel.reply_queue)
            if not reply_queue:
                return _ask(channel, spec, lambda answers: answers.final(on_part))
            release = channel.shared.queues.acquire(channel.channel, reply_queue, spec)
            try:
                return _ask(channel, spec, lambda answers: answers.final(on_part), reply_queue)
            finally:
                release()

    def submit(self, spec: RequestSpec) -> Future[Any]:
        """Send a request and return a future of its answer (of one in parts the first).

        Its callbacks run on a thread of the client that serves all futures: they should be short.
        When it is cancelled the answer is dropped.
        """

        def send() -> CancellableFuture[Any]:
            return FutureAnswer(self.channel_for(spec), spec).start()

        return tracing.submitting("request", "", spec.queue, send)

    def gather(self, spec: RequestSpec, *, count: int | None = None) -> list[dict[str, Any]]:
        """Send one request to several services and collect their answers.

        Args:
            count: return when so many answers are there; None to wait for the time.

        Returns:
            The answers in the order in which they came; when the time is up there may be fewer
            than ``count``, or none. Error answers count, but are logged and left out.

        Raises:
            RemoteError: there are only error answers; this is the first.
        """
        check_count(count)
        with tracing.requesting(spec.exchange, spec.queue):
            return _ask(self.channel_for(spec), spec, lambda answers: answers.gather(count))

    def stream(self, spec: RequestSpec, *, prefetch_count: int = 32) -> ReplyStream[Any]:
        """Send a request whose answer comes in parts, and iterate over them.

        The parts wait at the broker, in a queue of this stream: however slow the reader is, no more
        than ``prefetch_count`` of them are in memory. The timeout is that of each part.

        Returns:
            An iterator over the parts, the last of which says ``is_final``; to be closed, best by
            using it in a ``with`` statement, if it is not read to its end.
        """
        with tracing.requesting("", spec.queue):
            # what the broker permits is known when there is a channel
            queue = PartsQueue(self.channel_for(spec), spec, prefetch_count, ThreadInbox())
            stream: ReplyStream[Any] = ReplyStream(queue)
            queue.open()
        return stream

    def send(self, spec: RequestSpec) -> str:
        """Send a message that asks for no answer, wait until the broker has it, return its id.

        Raises:
            PublishError: the broker did not confirm it.
        """
        with tracing.publishing("", spec.queue):
            encoded = spec.encode(self.owner)
            message = Destination(queue=spec.queue).message(encoded)
            self.connections.publisher.publish(message, timeout=spec.timeout)
        return encoded.message_id

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Delete the reply queue and close the connection; a second time does no harm.

        Args:
            timeout: for all of it, in seconds.
        """
        deadline = time.monotonic() + timeout
        try:
            # when it is not acquired in time the client is closed all the same
            self._opening.acquire(timeout=time_left(deadline))
            if self.is_closed:
                return
            self.is_closed = True
            if self._channel is not None:
                self._channel.retire()
        finally:
            try:  # noqa: SIM105 - as in `open`
                self._opening.release()
            except RuntimeError:
                pass
        self._shared.queues.delete_all(time_left(deadline))
        self.connections.close(max(0.5, time_left(deadline)))
        self._shared.futures.stop(time_left(deadline))

    def after_fork_in_child(self) -> None:
        """Drop what the parent opened: a child has a connection and a reply queue of its own."""
        forking.keep(self._channel, self._shared)
        self._opening = threading.RLock()
        self._channel = None
        self._shared = Shared(self.connections)

    # -- the channel ---------------------------------------------------------------------------

    @property
    def open_channel(self) -> ReplyChannel | None:
        """The channel of this client; None when it has to be opened first."""
        channel = self._channel
        return channel if channel is not None and channel.channel.is_open else None

    def channel_for(self, spec: RequestSpec) -> ReplyChannel:
        """Return the channel that a request is sent on; it is opened if it is not open.

        Raises:
            RequestTimeoutError: there is no connection in time.
            MQConnectionError: there is no connection.
            UnroutableError: there is no such exchange: to publish to it would cost all requests
                their channel.
        """
        try:
            if spec.exchange:
                look_up = Exchange(spec.exchange).declare(passive=True)
                self.connections.control.perform_step(look_up, timeout=time_left(spec.deadline))
            channel = self._channel
            if channel is None or not channel.channel.is_open:
                channel = self.open(spec.deadline)
            return channel
        except Refusal as refusal:
            raise UnroutableError(
                f"a request for {spec.place}: {refusal.text}", may_have_arrived=False
            ) from refusal
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error

    def open(self, deadline: float) -> ReplyChannel:
        """Open the channel if it is not open, until a moment of the monotonic clock.

        Raises:
            WaitTimeoutError: there is no connection in time.
            MQConnectionError: there is no connection.
            StoppedError: the client was closed.
        """
        try:
            if not self._opening.acquire(timeout=time_left(deadline)):
                raise WaitTimeoutError("the request connection is not there in time")
            if self.is_closed:
                raise StoppedError("the request client is closed")
            channel = self.open_channel
            if channel is None:
                channel = ReplyChannel(self._shared, self.connections.requests)
                channel.open(deadline)
                self._channel = channel
            return channel
        finally:
            # whether it was taken only the lock knows: an exception may have come after that
            try:  # noqa: SIM105 - a call before it would be a moment for another exception
                self._opening.release()
            except RuntimeError:
                pass


def check_count(count: int | None) -> None:
    """Raise `ValueError` where no answer would be waited for."""
    if count is not None and count < 1:
        raise ValueError(f"count={count!r}: at least one answer has to be waited for")


def _ask(
    channel: ReplyChannel,
    spec: RequestSpec,
    read: Callable[[Answers], Coroutine[Any, Any, T]],
    reply_queue: str = "",
) -> T:
    answers = Answers(channel, spec, ThreadInbox(channel.read_until), reply_queue)
    try:
        channel.start(answers.request)
        return run_on_thread(read(answers))
    finally:
        channel.remove(answers.request)
