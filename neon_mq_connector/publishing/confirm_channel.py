"""One channel in confirm mode: what was published on it, and what became of that."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from pika.spec import Basic, BasicProperties

from neon_mq_connector.deadline import time_left
from neon_mq_connector.errors import (
    FrameError,
    MQError,
    PublishError,
    PublishRejectedError,
    StoppedError,
    UnroutableError,
)
from neon_mq_connector.link import ChannelEvents, LinkChannel
from neon_mq_connector.publishing.message import Flush
from neon_mq_connector.publishing.unconfirmed import Unconfirmed

#: So many bytes that are held back are worth a system call.
_ENOUGH = 32_768
#: What is held back is written after so many seconds at the latest.
_LONGEST_HOLD = 0.01


class ConfirmChannel:
    """One channel in confirm mode, for any number of threads.

    Delivery tags are numbered in the order in which messages are sent. So a message is put into
    `_todo`, and the thread that takes the only item out of `_idle` numbers and sends all that is
    there. No thread waits for that: the sending one looks again after it has put the item back.
    Taking a message out of `_pending`, which is atomic, decides who tells of its end.

    A signal handler may raise an exception whenever a call returns. So the item is taken by ``del``
    and a message gets from one place to the next without a call in between.

    Args:
        on_settled: called on the I/O thread with a message that was confirmed or has failed.
        on_end: called on the I/O thread when the channel has ended, with what is unconfirmed.
        on_refused: called on any thread with a message that was not sent: the channel is shut.
    """

    _channel: LinkChannel  # set by `open`, before anything else is called

    def __init__(
        self,
        on_settled: Callable[[Unconfirmed, PublishError | None], None],
        on_end: Callable[[ConfirmChannel, list[Unconfirmed], MQError], None],
        on_refused: Callable[[Unconfirmed], None],
    ) -> None:
        self._on_settled = on_settled
        self._on_end = on_end
        self._on_refused = on_refused
        self._todo: deque[Unconfirmed] = deque()
        self._idle = [None]
        self._last = 0
        self._held = 0  # bytes; the sending thread's
        self._write_due = 0.0  # until then a timer writes what is held back
        self._lowest = 1  # the I/O thread's: everything below is confirmed
        self._pending: dict[int, Unconfirmed] = {}
        self._error: MQError | None = None

    def open(self, open_channel: Callable[..., LinkChannel], deadline: float) -> None:
        self._channel = open_channel(
            ChannelEvents(confirms=self._confirmed, returned=self._returned, shut=self._shut),
            timeout=time_left(deadline),
        )
        self._error = None  # of a connection that was full
        self._channel.confirm(timeout=time_left(deadline))

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def send(self, item: Unconfirmed) -> None:
        """Send a message, now or with others that follow.

        Raises:
            ChannelShutError, ConnectionLostError: the channel is shut; nothing was sent.
            pika.exceptions.AMQPError, ValueError: it cannot be put on the wire.
        """
        if self._error is not None:
            raise self._error
        channel, message = self._channel, item.message
        item.frames = channel.encode(
            message.exchange,
            message.routing_key,
            message.body,
            message.properties,
            mandatory=message.mandatory,
        )
        self._todo.append(item)
        self._send_waiting(channel)

    def flush(self) -> None:
        """Write what is held back."""
        self._send_waiting(self._channel)
        self._channel.flush()

    def read_until(self, done: Callable[[], object], deadline: float) -> None:
        """Read confirms until something is done; for the only thread that waits for one."""
        self._channel.read_until(done, deadline)

    def _send_waiting(self, channel: LinkChannel) -> None:
        while self._todo:
            try:
                del self._idle[0]
            except IndexError:
                return  # a thread is sending, and looks again
            try:
                flush = self._send_all(channel)
            except BaseException:
                # an interrupt: the numbers may no longer be true. What others wait to have sent
                # finds the channel shut
                channel.close_soon()
                channel.link.submit(lambda: self._send_waiting(channel))
                raise
            finally:
                self._idle.append(None)
            if flush is Flush.NOW:
                channel.flush()
            elif flush is Flush.SOON:
                channel.flush_soon()
            elif (now := time.monotonic()) >= self._write_due:
                # not for ever: an interrupt may come before the timer is set
                self._write_due = now + 2 * _LONGEST_HOLD
                with contextlib.suppress(StoppedError):
                    channel.link.call_later(_LONGEST_HOLD, self._write_held)

    def _send_all(self, channel: LinkChannel) -> Flush:
        """Send all of `_todo`; return when it is to be written."""
        todo, pending = self._todo, self._pending
        flush = Flush.HELD
        while todo:
            number = self._last + 1
            pending[number] = item = todo[0]
            del todo[0]
            if item.flush is Flush.HELD:
                self._held += len(item.frames)
            elif flush is not Flush.NOW:
                flush = item.flush
            try:
                channel.send(item.frames, flush=False)
            except MQError:
                if pending.pop(number, None) is not None:
                    self._on_refused(item)
            else:
                self._last = number
                item.frames = b""
        if flush is Flush.HELD and self._held < _ENOUGH:
            return flush
        self._held = 0
        return Flush.NOW if flush is Flush.HELD else flush

    # -- I/O thread ----------------------------------------------------------------------------

    def _write_held(self) -> None:
        self._write_due = 0.0
        self.flush()

    def _confirmed(self, tag: int, multiple: bool, nacked: bool) -> None:
        pop = self._pending.pop
        sent = self._last + 1  # the sender may not have come to count the latest
        if not 0 < tag <= sent:
            raise FrameError(f"the broker confirms message {tag}, no more than {sent} were sent")
        if multiple:
            for number in range(self._lowest, tag):
                item = pop(number, None)
                if item is not None:
                    self._settle(item, nacked)
            self._lowest = tag + 1
        elif tag == self._lowest:
            self._lowest = tag + 1
        item = pop(tag, None)
        if item is not None:
            self._settle(item, nacked)

    def _settle(self, item: Unconfirmed, nacked: bool) -> None:
        error: PublishError | None = None
        if item.returned:
            error = UnroutableError(
                f"{item.message}: there is no such queue, or no binding takes it",
                may_have_arrived=False,
            )
        elif nacked:
            error = PublishRejectedError(
                f"{item.message}: the broker would not take it (a full queue, one whose node "
                "is down, or an internal error; its log says more)",
                may_have_arrived=False,
            )
        self._on_settled(item, error)

    def _returned(self, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        # a return carries no number; the oldest message that looks the same is it, or its equal
        while True:
            with contextlib.suppress(RuntimeError):  # a sender has added one: look again
                for item in self._pending.values():
                    message = item.message
                    if (
                        not item.returned
                        and message.routing_key == method.routing_key
                        and message.exchange == method.exchange
                        and message.body == body
                    ):
                        item.returned = True
                        return
                return

    def _shut(self, error: MQError) -> None:
        self._error = error
        pending = []
        with contextlib.suppress(KeyError):  # a sender takes some out too
            while True:
                pending.append(self._pending.popitem()[1])
        self._on_end(self, pending[::-1], error)
