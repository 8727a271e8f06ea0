"""A supervised connection over pika's `SelectConnection`.

Its I/O thread owns the pika connection and its channels: connect, serve, and on any loss back off
and connect again, until it is closed. Other threads hand it work with `submit`; messages and
settlements they write to the socket themselves (`transport`).
"""

from __future__ import annotations

import contextlib
import enum
import logging
import random
import threading
import time
from collections.abc import Sequence
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
from neon_mq_connector.link.channel import LinkChannel
from neon_mq_connector.link.channel_calls import ChannelEvents
from neon_mq_connector.link.io_thread import IOThread
from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.outage import outage_of
from neon_mq_connector.link.services import Services
from neon_mq_connector.link.translate import connect_error, loss_error, refused_for_good
from neon_mq_connector.link.transport import StreamTransport
from neon_mq_connector.link.waiter import Answer, Waiter

LOG = logging.getLogger("neon_mq_connector.link")

_TICK = 0.25


class LinkState(enum.Enum):
    """The state of a link."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSING = "closing"
    CLOSED = "closed"


class Link(IOThread):
    """One connection to a virtual host, opened when first needed and kept until it is closed.

    Any thread may use it. What has an underscore is owned by the I/O thread.

    Args:
        name: the name of the thread; every log line and error carries it.
        parameters: one entry per server of the cluster; tried in a new random order each time.
        backoff: the delays between attempts.
        reconnects: whether to connect again after a loss; otherwise the next channel that is asked
            for does that, and a failure to connect is only told to the one who asked.

    Attributes:
        state: where the link stands.
        generation: how many times it was connected.
        last_error: why it is not connected, or was not before.
    """

    _services: Services  # of the present loop

    def __init__(
        self,
        name: str,
        parameters: Sequence[pika.ConnectionParameters],
        *,
        backoff: OutageBackoff | None = None,
        reconnects: bool = True,
    ) -> None:
        super().__init__(name)
        self.state = LinkState.IDLE
        self.generation = 0
        self.last_error: MQError | None = None
        self._parameters = tuple(parameters)
        self._backoff = backoff or OutageBackoff()
        self._reconnects = reconnects
        self._outage = outage_of(self._parameters)
        self._connection: pika.SelectConnection | None = None
        self._channels: set[LinkChannel] = set()
        self._pending: list[tuple[ChannelEvents, Answer[LinkChannel]]] = []
        self._round: list[pika.ConnectionParameters] = []
        self._outage_began: float | None = None
        self._taken = 0
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
        """Open a channel, and the connection if there is none yet.

        While the connection is down this waits for the next attempt to connect, and no longer: if
        that fails, so does this.

        Args:
            events: where the channel reports what happens on it.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Raises:
            BrokerUnreachableError: no server answered; the link goes on trying.
            AuthenticationError, VhostAccessError: the broker is up and refused.
            StoppedError: the link was closed.
            WaitTimeoutError: no answer in time.
        """
        waiter = waiter or Waiter()
        self._start()
        self.submit(lambda: self.begin_channel(events, waiter))
        return waiter.wait(timeout, f"{self.name}: opening a channel")

    def open_soon(self) -> bool:
        """Open the connection if there is none yet and it reconnects, without waiting.

        Returns:
            Whether it is open.

        Raises:
            StoppedError: the link was closed.
        """
        self._start()
        return self.state is LinkState.OPEN

    @property
    def agreed(self) -> tuple[dict[str, Any], pika.connection.Parameters]:
        """What the broker has told of itself, and what was agreed with it; while it is open."""
        connection = self._connection
        assert connection is not None
        return dict(connection.server_properties or {}), connection.params

    def close(self, timeout: float) -> bool:
        """Close the channels and the connection, and end the thread.

        Args:
            timeout: how long to wait for the broker's answer, in seconds; after it the socket is
                dropped.

        Returns:
            Whether the thread has ended.
        """
        with self._lock:
            self._closing = True
            thread = self._thread
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
        self._services = Services(loop)
        self.set_timer(0, self._tick)
        if self._reconnects or self._pending:
            self._connect()
        else:
            self.state = LinkState.IDLE

    def _loop_failed(self) -> None:
        self._abandon(ConnectionLostError(f"{self.name}: its loop failed"))

    def _ended(self) -> None:
        self.state = LinkState.CLOSED
        self._outage.end(self, is_back=False)
        stopped = StoppedError(f"{self.name} is closed")
        self._abandon(stopped)
        self._fail_pending(stopped)
        self._services.close_socket()

    def _tick(self) -> None:
        self.last_tick = now = time.monotonic()
        self.set_timer(_TICK, self._tick)
        connection = self._connection
        if connection is None or self.state is not LinkState.OPEN:
            return
        reader = self._transport().reader
        reader.lease.revoke_expired()
        # pika counts what it gets, and closes what is silent
        taken = reader.taken
        connection.bytes_received += taken - self._taken
        self._taken = taken
        heartbeat = connection.params.heartbeat
        if connection.bytes_received != self._received:
            self._received = connection.bytes_received
            self._received_at = now
        elif isinstance(heartbeat, int) and heartbeat and now - self._received_at > 2 * heartbeat:
            # pika's own check takes up to two time-outs and 10 s
            self.abort(f"nothing was received for {2 * heartbeat:g} s")

    # -- I/O thread: connecting ----------------------------------------------------------------

    def _connect(self) -> None:
        if self._closing:
            self._stop_loop()
            return
        self.state = LinkState.CONNECTING
        self._round = random.sample(self._parameters, len(self._parameters))
        self._try_next_server()

    def _try_next_server(self) -> None:
        parameters = self._round.pop()

        def failed(connection: object, error: Any) -> None:
            if connection is not None and connection is not self._connection:
                return
            self._connection = None
            translated = connect_error(error, [parameters], fault=self._fault())
            translated.__cause__ = error
            self._connect_failed(translated)

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
        if not self._closing:
            if self._round:
                self._try_next_server()
                return
            self._fail_pending(error)
            if refused_for_good(error) and self.generation == 0:
                # the caller is told; the next call connects again
                self.state = LinkState.IDLE
                self._outage.end(self, is_back=False)
                return
        self._retry_later(error)

    def _retry_later(self, error: MQError) -> None:
        if self._closing:
            self._stop_loop()
            return
        self.last_error = error
        if not self._reconnects:
            self.state = LinkState.IDLE
            return
        self.state = LinkState.WAITING
        self._outage.begin(self, error)
        now = time.monotonic()
        if self._outage_began is None:
            self._outage_began = now
        delay = self._backoff.delay(now - self._outage_began)
        LOG.debug("%s: %s; next attempt to connect in %.2f s", self.name, error, delay)
        self.set_timer(delay, self._connect)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        if self._closing:
            connection.close()
            return
        self.generation += 1
        self._outage.end(self)
        self._outage_began = None
        self._received_at = time.monotonic()
        self._taken = 0
        self.last_error = None
        self.blocked_reason = None
        self.state = LinkState.OPEN
        if connection.params.frame_max:
            self._transport().reader.parser.frame_max = connection.params.frame_max
        connection.add_on_connection_blocked_callback(
            lambda _connection, frame: self._set_blocked(frame.method.reason or "blocked")
        )
        connection.add_on_connection_unblocked_callback(
            lambda _connection, _frame: self._set_blocked(None)
        )
        pending, self._pending = self._pending, []
        for events, waiter in pending:
            self.begin_channel(events, waiter)

    def _set_blocked(self, reason: str | None) -> None:
        self.blocked_reason = reason
        LOG.warning(
            "%s: %s", self.name, f"blocked by the broker: {reason}" if reason else "unblocked"
        )

    # -- I/O thread: channels and loss ---------------------------------------------------------

    def begin_channel(self, events: ChannelEvents, waiter: Answer[LinkChannel]) -> None:
        """Open a channel as `open_channel` does; the answer gets it."""
        if self._closing:
            waiter.fail(StoppedError(f"{self.name} is closed"))
            return
        if self.state is not LinkState.OPEN or self._connection is None:
            self._pending.append((events, waiter))
            if self.state is LinkState.IDLE:
                self._connect()
            return
        channel = LinkChannel(self, events, self._transport(), on_shut=self._channels.discard)
        self._channels.add(channel)
        channel.open(self._connection, waiter)

    def disconnect(self) -> None:
        """Close the connection; the next channel that is asked for opens another."""
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.close()
            self._lost(ConnectionLostError(f"{self.name}: it was closed"))

    def abort(self, reason: str) -> None:
        """End the connection without the broker, if it is open."""
        if self._loop is not None and self.state is LinkState.OPEN:
            self._loop.abort_connections()
            self._lost(ConnectionLostError(f"{self.name}: {reason}"))

    def _transport(self) -> StreamTransport:
        assert self._services.transport is not None, "there is one before the connection opens"
        return self._services.transport

    def _fault(self) -> FrameError | None:
        """Return what was wrong with what came, if the connection ended for it."""
        transport = self._services.transport
        return None if transport is None else transport.reader.fault

    def _on_close(self, connection: pika.SelectConnection, error: BaseException) -> None:
        if connection is self._connection:
            what = f"{self.name}: the connection"
            self._lost(loss_error(self._fault() or error, what=what))

    def _lost(self, error: MQError) -> None:
        """Connect again after a while; report the end to channels that do not know of it."""
        self._abandon(error)
        self._retry_later(error)

    def _abandon(self, error: MQError) -> None:
        """Void everything that belonged to the connection."""
        self._connection = None
        self.blocked_reason = None
        for channel in list(self._channels):
            channel.shut(error, error.__cause__)

    def _fail_pending(self, error: MQError) -> None:
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
        if self._loop is not None:
            self._loop.abort_connections()
            self.set_timer(0.5, self._stop_loop)

    def _stop_loop(self) -> None:
        self.state = LinkState.CLOSING
        super()._stop_loop()
