"""The channel of a request client: requests are sent on it, and answers received.

When it ends, every request that waits is told, and the next request opens another.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty
from typing import Any

from pika.spec import BasicProperties

from neon_mq_connector import metrics
from neon_mq_connector.client.inbox import Inbox
from neon_mq_connector.client.reply_queues import ReplyQueues, learn_direct_name
from neon_mq_connector.client.request import (
    ReplyEvent,
    Request,
    RequestSpec,
    answer_id,
    read_answer,
)
from neon_mq_connector.connections import Connections
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.errors import (
    DecodeError,
    FrameError,
    MQConnectionError,
    MQError,
    RequestTimeoutError,
    StoppedError,
    TopologyError,
    UnroutableError,
    WaitTimeoutError,
)
from neon_mq_connector.link import (
    CallbackAnswer,
    ChannelEvents,
    Link,
    LinkChannel,
    RawDelivery,
    correlation_id,
    ignore,
)
from neon_mq_connector.publishing.message import Flush
from neon_mq_connector.publishing.refusals import refusal_of
from neon_mq_connector.threads.futures import FutureThread
from neon_mq_connector.topology import Queue, QueueStatus, Refusal, declare_queue

LOG = logging.getLogger("neon_mq_connector.client")

#: How long reads are delayed for each request that waits, in seconds: less than a service needs.
_TIME_PER_REQUEST = 15e-6
#: How long the error of a request that is late anyway waits for what the broker says, in seconds.
PATIENCE = 1.0


class Shared:
    """The state that all requests of one client share; any thread may use it.

    Attributes:
        numbers: the correlation ids.
        futures: the thread for answers that no thread waits for; the I/O thread decodes nothing.
        queues: the reply queues.
        late_replies: how many answers were dropped because no request waited for them.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.futures = FutureThread(f"mq-replies:{connections.vhost}")
        self.queues = ReplyQueues(connections)
        self.late_replies = 0
        self.numbers = itertools.count(1)

    def drop(self, owner: str | None) -> None:
        """Count an answer that names a request which does not wait."""
        self.late_replies += 1
        LOG.debug("an answer for request %s, which does not wait, is dropped", owner)


class ReplyChannel:
    """One channel: it consumes the answers and publishes the requests.

    The waiting requests are in dicts with one key per request: any thread adds and removes.

    Attributes:
        shared: what the requests of the client share.
        reply_queue: what requests name for answers that are not direct.
    """

    #: What it sends and receives on; `open` sets it, before anything else is called.
    channel: LinkChannel

    def __init__(self, shared: Shared, link: Link) -> None:
        self.shared = shared
        self.reply_queue = ""
        self._link = link
        self._reply_consumer = ""
        self._by_correlation: dict[str, Request] = {}
        self._by_message: dict[str, Request] = {}
        self._error: MQError | None = None

    def open(self, deadline: float) -> None:
        """Open it, consume from direct reply-to, and make the client's reply queue."""
        self.channel = channel = self._link.open_channel(
            ChannelEvents(
                deliveries=self._deliveries,
                returned=self._returned,
                cancelled=self._cancelled,
                shut=self._shut,
            ),
            timeout=time_left(deadline),
        )
        consume = partial(channel.consume, auto_ack=True)
        try:
            consume(DIRECT_REPLY_TO, timeout=time_left(deadline))
            name = self.shared.queues.declare_own(deadline)
            if name and name != DIRECT_REPLY_TO:
                self._reply_consumer = consume(name, timeout=time_left(deadline))
            self.reply_queue = name or learn_direct_name(channel, deadline)
        except BaseException:
            channel.close_soon()
            raise

    # -- any thread ----------------------------------------------------------------------------

    def request(
        self,
        spec: RequestSpec,
        receive: Callable[[ReplyEvent], object],
        reply_queue: str = "",
        *,
        direct: bool = True,
    ) -> Request:
        """Return a request to be sent on this channel; for the arguments see `Request`.

        The reply queue is the channel's by default.
        """
        number, owner = str(next(self.shared.numbers)), self.shared.connections.owner
        return Request(spec, number, reply_queue or self.reply_queue, receive, owner, direct=direct)

    def start(self, request: Request, flush: Flush = Flush.NOW) -> None:
        """Send a request; its events are received until `remove`, which is called in any case.

        Raises:
            RequestLostError: the connection is gone; it was not sent.
            RequestTimeoutError: the broker takes nothing.
        """
        self.add(request)
        self.publish(request, flush, timeout=time_left(request.spec.deadline))

    def publish(self, request: Request, flush: Flush = Flush.NOW, *, timeout: float = 0.0) -> None:
        """Publish a request that was added; errors as for `start`.

        With a timeout, in seconds, it waits until the broker has taken what was sent before.
        """
        channel, spec, message = self.channel, request.spec, request.message
        frames = channel.encode(
            spec.exchange, spec.queue, message.body, message.properties, mandatory=True
        )
        try:
            channel.send(frames, timeout=timeout, flush=flush is Flush.NOW)
            if flush is Flush.SOON:
                channel.flush_soon()
        except MQConnectionError as error:
            raise request.lost(error) from error
        except WaitTimeoutError as error:
            raise spec.not_sent(error) from error

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read answers until something is done, if no more than one request waits for any."""
        if len(self._by_correlation) == 1:
            self.channel.read_until(done, deadline)

    def add(self, request: Request) -> None:
        """Let a request receive its events."""
        self._by_correlation[request.correlation_id] = request
        self._by_message[request.message.message_id] = request
        if self._error is not None:
            raise request.lost(self._error)

    def remove(self, request: Request) -> None:
        """Let a request receive nothing any more."""
        request.receive = ignore  # or else the garbage collector would have to free its receiver
        was_waiting = self._by_correlation.pop(request.correlation_id, None)
        message_id = request.message.message_id
        if self._by_message.get(message_id) is request:
            self._by_message.pop(message_id, None)
        if was_waiting is not None and (durations := metrics.request_seconds) is not None:
            spec = request.spec
            durations.observe(spec.queue, time.monotonic() - (spec.deadline - spec.timeout))

    def read(self, request: Request, event: ReplyEvent) -> dict[str, Any] | None:
        """Return the answer that a request has received, or raise why there is none.

        Returns:
            None for an answer that names another request, which then receives it.
        """
        if isinstance(event, BaseException):
            raise request.lost(event)
        answer = request.read(event)
        if answer is None:
            self._assign_later(event)
        return answer

    def look_up(self, spec: RequestSpec, tell: Callable[[QueueStatus | None], object]) -> None:
        """Ask the broker for the status of the queue of a request; do not wait.

        Args:
            spec: what was asked.
            tell: called once with the status, by any thread; with None where it is not known.
        """
        if spec.exchange:  # whose queues are not known
            tell(None)
            return
        connections = self.shared.connections
        answer = CallbackAnswer(tell, lambda _error: tell(None))
        timeout = connections.policy.operation_timeout
        try:
            connections.control.look_up(spec.queue, answer, timeout=timeout)
        except StoppedError:
            tell(None)

    async def late(
        self, request: Request, inbox: Inbox[QueueStatus | None], what: str = "answer"
    ) -> RequestTimeoutError:
        """Return the error of `expire`, with what the broker tells of the queue in `PATIENCE`."""
        self.look_up(request.spec, inbox.put)
        try:
            status = await inbox.get(time.monotonic() + PATIENCE)
        except Empty:
            status = None
        return self.expire(request, status, what)

    def expire(
        self, request: Request, status: QueueStatus | None = None, what: str = "answer"
    ) -> RequestTimeoutError:
        """Return the error for what did not come in time, with the status of the queue."""
        text = f"{request}: no {what} within {request.spec.timeout:g} s"
        if reason := self._link.blocked_reason:
            text += f"; the broker has blocked publishing: {reason}"
        if status is None:
            return RequestTimeoutError(text)
        if not status.consumers:
            reason = "no service consumes the queue"
        elif status.messages:
            reason = f"{status.messages} messages wait in the queue, {status.consumers} consumers"
        else:
            reason = f"consumers of the queue: {status.consumers}, and nobody has answered"
        error = RequestTimeoutError(f"{text}; {reason}")
        error.consumers, error.waiting = status.consumers, status.messages
        return error

    def retire(self) -> None:
        """Ignore the end of the reply queue, which the client is about to delete."""
        self._reply_consumer = ""

    # -- I/O thread ----------------------------------------------------------------------------

    def _deliveries(self, batch: Sequence[RawDelivery]) -> None:
        call_last = self._link.call_last
        for raw in batch:
            try:
                number = correlation_id(raw[1])
            except FrameError:
                number = None  # the body may name the request
            request = None
            if number is not None:
                request = self._by_correlation.get(number) or self._by_message.get(number)
            if request is None:
                self._assign_later(raw)
            else:
                call_last(request.receive, raw)
        self._link.delay_reads(len(self._by_correlation) * _TIME_PER_REQUEST)

    def _assign_later(self, raw: RawDelivery) -> None:
        """Pass an answer to the request that its body names, which a thread reads, or drop it."""

        def assign() -> None:
            try:
                owner = answer_id(read_answer(raw))
            except (DecodeError, FrameError) as error:
                LOG.warning("an answer that cannot be read is dropped: %s", error)
                self.shared.late_replies += 1
                return
            request = None if owner is None else self._by_message.get(owner)
            if request is None:
                self.shared.drop(owner)
            else:
                request.receive(raw)

        self.shared.futures.call(assign)

    def _returned(self, _method: object, properties: BasicProperties, _body: object) -> None:
        request = self._by_correlation.get(properties.correlation_id)
        if request is None:
            return
        if request.declared:
            request.receive(
                UnroutableError(f"{request}: no queue takes it", may_have_arrived=False)
            )
            return
        request.declared = True
        spec = request.spec
        what, declare = f"declaring {spec.place}", partial(declare_queue, Queue(spec.queue))
        failed = partial(self._not_declared, request)
        answer = CallbackAnswer(partial(self._publish_again, request), failed)
        try:
            control = self.shared.connections.control
            control.submit(what, declare, answer, timeout=time_left(spec.deadline))
        except MQError as error:
            failed(error)

    def _cancelled(self, consumer_tag: str) -> None:
        """Close the channel when its reply queue was deleted: the next request makes another."""
        if consumer_tag == self._reply_consumer:
            LOG.warning("reply queue %r was deleted; another is made", self.reply_queue)
            self.channel.close_soon()

    def _shut(self, error: MQError) -> None:
        self._error = error
        refusal = refusal_of(error)
        self._by_message.clear()
        while True:
            try:
                _number, request = self._by_correlation.popitem()
            except KeyError:
                return
            self._link.call_last(request.receive, refusal(request.as_published) or error)

    # -- the control connection's thread -------------------------------------------------------

    def _publish_again(self, request: Request, _status: object) -> None:
        """Publish a returned request once more: its queue is declared."""
        if request.correlation_id not in self._by_correlation:
            return
        try:
            self.publish(request)
        except MQError as error:
            request.receive(error)

    def _not_declared(self, request: Request, error: BaseException) -> None:
        if isinstance(error, WaitTimeoutError):
            error = request.spec.not_sent(error)
        elif isinstance(error, Refusal):
            error, refusal = TopologyError(f"{request}: its queue was not declared: {error}"), error
            error.__cause__ = refusal
        request.receive(error)
