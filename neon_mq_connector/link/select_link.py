"""A supervised connection over pika's `SelectConnection`.

Its I/O thread owns the pika connection and its channels: connect, serve, and on any loss back off
and connect again, until it is closed. Other threads hand it work with `submit`; messages and
settlements they write to the socket themselves (`transport`).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pika

from neon_mq_connector.backoff import OutageBackoff
from neon_mq_connector.errors import (
    ConnectionLostError,
    FrameError,
    MQConnectionError,
    MQError,
    StoppedError,
)
from neon_mq_connector.link.events import ChannelEvents, LinkState
from neon_mq_connector.link.interface import Link, LinkChannel
from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.loop_thread import LoopThread
from neon_mq_connector.link.outage import outage_of
from neon_mq_connector.link.select_channel import SelectChannel
from neon_mq_connector.link.services import Services
from neon_mq_connector.link.translate import connect_error, loss_error, refused_for_good
from neon_mq_connector.link.transport import StreamTransport
from neon_mq_connector.link.waiter import Waiter

LOG = logging.getLogger("neon_mq_connector.link")

_TICK = 0.25
FRAME_MAX = 131_072


class SelectLink(Link):
    """See `Link`. What has an underscore is owned by the I/O thread.

    Args:
        name: the name of the thread; every log line and error carries it.
        parameters: one entry per server of the cluster; tried in a new random order each time.
        backoff: the delays between attempts.
        on_silence: called on the I/O thread when the broker has been silent for too long.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[pika.ConnectionParameters],
        *,
        backoff: OutageBackoff | None = None,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.state = LinkState.IDLE
        self.blocked_reason: str | None = None
        self.generation = 0
        self.last_tick = 0.0
        self.last_error: MQError | None = None
        self._parameters = tuple(parameters)
        self._backoff = backoff or OutageBackoff()
        self._on_silence = on_silence
        self._outage = outage_of(self._parameters)
        self._io = LoopThread(name, begin=self._begin, failed=self._loop_failed, ended=self._ended)
        self._services: Services | None = None
        self._connection: pika.SelectConnection | None = None
        self._channels: set[SelectChannel] = set()
        self._pending: list[tuple[ChannelEvents, Waiter[LinkChannel]]] = []
        self._round: list[pika.ConnectionParameters] = []
        self._outage_began: float | None = None
        self._received = 0
        self._received_at = 0.0

    # -- any thread ----------------------------------------------------------------------------

    def open_channel(
        self,
        events: ChannelEvents,
        *,
        timeout: float,
        waiter: Waiter[LinkChannel] | None = None,
    ) -> LinkChannel:
        waiter = waiter or Waiter()
        self._io.start()
        self.submit(lambda: self._open_channel(events, waiter))
        return waiter.wait(timeout, f"{self.name}: opening a channel")

    def open_soon(self) -> bool:
        self._io.start()
        return self.state is LinkState.OPEN

    def submit(self, work: Callable[[], None]) -> None:
        self._io.submit(work)

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        self._io.submit(lambda: self._io.call_later(delay, work))

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        self._io.call_last(call, argument)

    def delay_reads(self, seconds: float) -> None:
        self._io.delay_reads(seconds)

    @property
    def is_io_thread(self) -> bool:
        return self._io.is_current

    def close(self, timeout: float) -> bool:
        thread = self._io.close()
        if thread is None:
            self.state = LinkState.CLOSED
            return True
        with contextlib.suppress(StoppedError):  # its loop has ended by itself
            self.submit(self._begin_close)
        if thread is threading.current_thread():
            return False
        if not thread.is_alive():
            return True  # or a signal handler has interrupted its start: it ends when it begins
        thread.join(timeout)
        if thread.is_alive():
            LOG.warning(
                "%s: the broker did not answer the close, dropping the connection", self.name
            )
            with contextlib.suppress(StoppedError):
                self.submit(self._drop)
            thread.join(2.0)
        return not thread.is_alive()

    # -- I/O thread: the loop ------------------------------------------------------------------

    def _begin(self, loop: Loop) -> None:
        self._services = Services(loop, self._count_taken)
        self._io.call_later(0, self._tick)
        self._connect()

    def _loop_failed(self) -> None:
        self._abandon(ConnectionLostError(f"{self.name}: its loop failed"))

    def _ended(self) -> None:
        self.state = LinkState.CLOSED
        self._outage.end(self, is_back=False)
        self._abandon(StoppedError(f"{self.name} is closed"))
        if self._services is not None:
            self._services.close_socket()

    def _tick(self) -> None:
        self.last_tick = now = time.monotonic()
        self._io.call_later(_TICK, self._tick)
        connection = self._connection
        if connection is None or self.state is not LinkState.OPEN:
            return
        self._transport().reader.lease.revoke_expired()
        heartbeat = connection.params.heartbeat
        if connection.bytes_received != self._received:
            self._received = connection.bytes_received
            self._received_at = now
        elif isinstance(heartbeat, int) and heartbeat and now - self._received_at > 2 * heartbeat:
            # pika's own check takes up to two time-outs and 10 s
            reason = f"nothing was received for {2 * heartbeat:g} s"
            if self._on_silence is not None:
                self._on_silence(reason)
            self._hang_up(ConnectionLostError(f"{self.name}: {reason}"))

    def _count_taken(self, size: int) -> None:
        if self._connection is not None:  # pika counts what it gets, and closes what is silent
            self._connection.bytes_received += size

    def _hang_up(self, error: MQError) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._io.loop is not None:
            self._io.loop.hang_up()
        self._lost(connection, error)

    # -- I/O thread: connecting ----------------------------------------------------------------

    def _connect(self) -> None:
        if self._io.closing:
            self._stop_loop()
            return
        self.state = LinkState.CONNECTING
        self._round = random.sample(self._parameters, len(self._parameters))
        self._try_next_server()

    def _try_next_server(self) -> None:
        parameters = self._round.pop()
        where = f"{parameters.host}:{parameters.port}"

        def failed(connection: object, error: Any) -> None:
            if connection is not None and connection is not self._connection:
                return
            self._connection = None
            translated = connect_error(
                error,
                where=where,
                user=getattr(parameters.credentials, "username", "?"),
                vhost=parameters.virtual_host,
                fault=self._fault(),
            )
            translated.__cause__ = error if isinstance(error, BaseException) else None
            self._connect_failed(translated)

        assert self._services is not None
        self._services.transport = None
        try:
            self._connection = pika.SelectConnection(
                parameters,
                on_open_callback=self._on_open,
                on_open_error_callback=failed,
                on_close_callback=self._on_close,
                custom_ioloop=self._services,
            )
        except Exception as error:  # pika checks parameters here
            failed(None, error)

    def _connect_failed(self, error: MQConnectionError) -> None:
        self.last_error = error
        if self._io.closing:
            self._stop_loop()
            return
        if self._round:
            self._try_next_server()
            return
        pending, self._pending = self._pending, []
        for _events, waiter in pending:
            waiter.fail(error)
        if refused_for_good(error) and self.generation == 0:
            # the caller is told; the next call connects again
            self.state = LinkState.IDLE
            self._outage.end(self, is_back=False)
            return
        self._retry_later(error)

    def _retry_later(self, error: MQError) -> None:
        self.state = LinkState.WAITING
        self._outage.begin(self, error)
        now = time.monotonic()
        if self._outage_began is None:
            self._outage_began = now
        delay = self._backoff.delay(now - self._outage_began)
        LOG.debug("%s: next attempt to connect in %.2f s", self.name, delay)
        self._io.call_later(delay, self._connect)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        if self._io.closing:
            connection.close()
            return
        self.generation += 1
        self._outage.end(self)
        self._outage_began = None
        self._received_at = time.monotonic()
        self.last_error = None
        self.blocked_reason = None
        self.state = LinkState.OPEN
        self._transport().reader.parser.frame_max = _frame_max(connection)
        connection.add_on_connection_blocked_callback(
            lambda _connection, frame: self._set_blocked(frame.method.reason or "blocked")
        )
        connection.add_on_connection_unblocked_callback(
            lambda _connection, _frame: self._set_blocked(None)
        )
        pending, self._pending = self._pending, []
        for events, waiter in pending:
            self._open_channel(events, waiter)

    def _set_blocked(self, reason: str | None) -> None:
        self.blocked_reason = reason
        LOG.warning(
            "%s: %s", self.name, f"blocked by the broker: {reason}" if reason else "unblocked"
        )

    # -- I/O thread: channels and loss ---------------------------------------------------------

    def _open_channel(self, events: ChannelEvents, waiter: Waiter[LinkChannel]) -> None:
        if self._io.closing:
            waiter.fail(StoppedError(f"{self.name} is closed"))
            return
        if self.state is not LinkState.OPEN or self._connection is None:
            self._pending.append((events, waiter))
            if self.state is LinkState.IDLE:
                self._connect()
            return
        channel = SelectChannel(
            self,
            events,
            self._transport(),
            frame_max=_frame_max(self._connection),
            on_shut=self._channels.discard,
        )
        self._channels.add(channel)
        channel.open(self._connection, waiter)

    def _transport(self) -> StreamTransport:
        assert self._services is not None
        assert self._services.transport is not None, "there is one before the connection opens"
        return self._services.transport

    def _fault(self) -> FrameError | None:
        """Return what was wrong with what came, if the connection ended for it."""
        transport = None if self._services is None else self._services.transport
        return None if transport is None else transport.reader.fault

    def _on_close(self, connection: pika.SelectConnection, error: BaseException) -> None:
        if connection is self._connection:
            self._connection = None
            what = f"{self.name}: the connection"
            self._lost(connection, loss_error(self._fault() or error, what=what))

    def _lost(self, connection: pika.SelectConnection, error: MQError) -> None:
        """Connect again after a while; report the end to channels that do not know of it."""
        self._abandon(error)
        if self._io.closing:
            self._stop_loop()
            return
        LOG.debug("%s", error)  # it begins with the name
        self.last_error = error
        self._retry_later(error)

    def _abandon(self, error: MQError) -> None:
        """Void everything that belonged to the connection."""
        self._connection = None
        self.blocked_reason = None
        for channel in list(self._channels):
            channel.shut(error, error.__cause__)
        if isinstance(error, StoppedError):
            pending, self._pending = self._pending, []
            for _events, waiter in pending:
                waiter.fail(error)

    # -- I/O thread: the end -------------------------------------------------------------------

    def _begin_close(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            self._stop_loop()
        elif connection.is_open:
            self.state = LinkState.CLOSING
            for channel in self._channels:
                channel.closing()
            connection.close()
        elif not connection.is_closing:
            self._drop()  # pika does not take a close well while it connects

    def _drop(self) -> None:
        """End the connection without closing it first; pika reports the end to `_on_close`."""
        if self._io.loop is not None:
            self._io.loop.hang_up()
            self._io.call_later(0.5, self._stop_loop)

    def _stop_loop(self) -> None:
        self.state = LinkState.CLOSING
        self._io.stop_loop()


def _frame_max(connection: pika.SelectConnection) -> int:
    """Return the largest frame that was negotiated, in bytes; without a bound, one of ours."""
    return int(connection.params.frame_max or FRAME_MAX)
