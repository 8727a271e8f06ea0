"""The channel of a request client: requests leave on it, answers come in on it.

One generation of it, that is: when it ends, every request that waits is told, and the next request
opens another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

from neon_mq_connector.client.reply_address import declare_reply_queue, learn_direct_name
from neon_mq_connector.client.request import Request, answer_id, read_answer
from neon_mq_connector.client.shared import Shared
from neon_mq_connector.deadline import time_left
from neon_mq_connector.envelope import DIRECT_REPLY_TO
from neon_mq_connector.errors import DecodeError, FrameError, MQError, StoppedError
from neon_mq_connector.link import (
    ChannelEvents,
    LinkChannel,
    RawDelivery,
    Returned,
    correlation_id,
)
from neon_mq_connector.publishing.confirm_channel import Flush
from neon_mq_connector.sending.outgoing import Outgoing

LOG = logging.getLogger("neon_mq_connector.client")

#: No service and no caller needs less time for a request, in seconds.
_TIME_PER_REQUEST = 15e-6


class ReplyChannel:
    """One channel: it consumes the answers and publishes the requests.

    The books of waiting requests are dicts with one key per request: any thread adds and removes.

    Args:
        shared: what the requests of the client share.

    Attributes:
        shared: the same.
        reply_queue: what requests name for answers that are not direct.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.reply_queue = ""
        self._reply_consumer = ""
        self._by_correlation: dict[str, Request] = {}
        self._by_message: dict[str, Request] = {}
        self._channel: LinkChannel | None = None
        self._call_last: Callable[[Callable[[Any], object], Any], None] = _call
        self._delay_reads: Callable[[float], None] = _no_delay
        self._error: MQError | None = None

    @property
    def is_open(self) -> bool:
        channel = self._channel
        return channel is not None and channel.is_open

    @property
    def is_writable(self) -> bool:
        """Whether `publish` need not wait for the broker to take what was sent before."""
        channel = self._channel
        return channel is not None and channel.is_writable

    @property
    def channel(self) -> LinkChannel:
        if self._channel is None:
            raise StoppedError("the request channel was never opened")
        return self._channel

    @property
    def blocked_reason(self) -> str | None:
        """Why the broker has blocked publishing; None when it has not."""
        return self.channel.link.blocked_reason

    def open(self, reply_queue: str, deadline: float) -> None:
        link = self.shared.connections.requests
        self._call_last, self._delay_reads = link.call_last, link.delay_reads
        channel = link.open_channel(
            ChannelEvents(
                deliveries=self._deliveries,
                returned=self._returned,
                cancelled=self._cancelled,
                shut=self._shut,
            ),
            timeout=time_left(deadline),
        )
        try:
            self._prepare(channel, reply_queue, deadline)
        except BaseException:
            channel.close_soon()
            raise
        self._channel = channel

    def _prepare(self, channel: LinkChannel, reply_queue: str, deadline: float) -> None:
        channel.consume(DIRECT_REPLY_TO, auto_ack=True, timeout=time_left(deadline))
        name = declare_reply_queue(self.shared.connections.control, reply_queue, deadline)
        if name and name != DIRECT_REPLY_TO:
            self._reply_consumer = channel.consume(name, auto_ack=True, timeout=time_left(deadline))
        self.reply_queue = name or learn_direct_name(channel, deadline)

    def publish(
        self, exchange: str, queue: str, outgoing: Outgoing, *, timeout: float, flush: Flush
    ) -> None:
        """Send a message; one that no queue takes comes back.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            WaitTimeoutError: the broker takes nothing.
        """
        channel = self.channel
        frames = channel.encode(exchange, queue, outgoing.body, outgoing.properties, mandatory=True)
        thread, inside = get_ident(), self.shared.inside.threads
        try:
            inside.add(thread)
            channel.send(frames, timeout=timeout, flush=flush is Flush.NOW)
            if flush is Flush.SOON:
                channel.flush_soon()
        finally:
            inside.discard(thread)

    def flush(self) -> None:
        """Write what was held back."""
        thread, inside = get_ident(), self.shared.inside.threads
        try:
            inside.add(thread)
            self.channel.flush()
        finally:
            inside.discard(thread)

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read answers until something is done, if no more than one request waits for any."""
        if len(self._by_correlation) == 1:
            self.channel.read_until(done, deadline)

    def add(self, request: Request) -> None:
        """Have what comes for a request delivered to it."""
        self._by_correlation[request.correlation_id] = request
        self._by_message[request.outgoing.message_id] = request
        if self._error is not None:
            self.remove(request)
            raise request.lost(self._error)

    def remove(self, request: Request) -> None:
        """Deliver nothing to it any more."""
        self._by_correlation.pop(request.correlation_id, None)
        message_id = request.outgoing.message_id
        if self._by_message.get(message_id) is request:
            self._by_message.pop(message_id, None)

    def retire(self) -> None:
        """Take no notice of the end of the reply queue, which its owner is about to delete."""
        self._reply_consumer = ""

    def assign(self, owner: str | None, raw: RawDelivery) -> None:
        """Give an answer to the request that its body names, or drop it.

        Args:
            owner: that request's id.
            raw: the answer.
        """
        request = None if owner is None else self._by_message.get(owner)
        if request is None:
            self.shared.drop(owner)
        else:
            request.deliver(raw)

    # -- I/O thread ----------------------------------------------------------------------------

    def _deliveries(self, batch: Sequence[RawDelivery]) -> None:
        call_last = self._call_last
        for raw in batch:
            try:
                number = correlation_id(raw[1])
            except FrameError:
                number = None  # whoever sent it; the body may say whose it is
            request = None
            if number is not None:
                request = self._by_correlation.get(number) or self._by_message.get(number)
            if request is None:
                self._assign_later(raw)
            else:
                call_last(request.deliver, raw)
        self._delay_reads(len(self._by_correlation) * _TIME_PER_REQUEST)

    def _assign_later(self, raw: RawDelivery) -> None:
        """Have an answer read that only its body can assign."""

        def assign() -> None:
            try:
                owner = answer_id(read_answer(raw))
            except (DecodeError, FrameError) as error:
                LOG.warning("an answer that cannot be read is dropped: %s", error)
                self.shared.late_replies += 1
                return
            self.assign(owner, raw)

        self.shared.futures.call(assign)

    def _returned(self, returned: Returned) -> None:
        request = self._by_correlation.get(returned.properties.correlation_id)
        if request is not None:
            request.deliver(returned)

    def _cancelled(self, consumer_tag: str) -> None:
        """Give the channel up when its reply queue was deleted: the next request makes another."""
        if consumer_tag == self._reply_consumer and self._channel is not None:
            LOG.warning("reply queue %r was deleted; another is made", self.reply_queue)
            self._channel.close_soon()

    def _shut(self, error: MQError) -> None:
        self._error = error
        self._by_message.clear()
        while True:
            try:
                _number, request = self._by_correlation.popitem()
            except KeyError:
                return
            self._call_last(request.deliver, error)


def _call(call: Callable[[Any], object], argument: Any) -> None:
    call(argument)


def _no_delay(_seconds: float) -> None:
    pass
