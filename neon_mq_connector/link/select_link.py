"""A supervised connection over pika's `SelectConnection`.

One thread, the I/O thread, owns the pika connection, its channels and its loop: connect, serve,
and on any loss back off and go round again, until it is closed. Other threads hand it work with
`submit`; messages and settlements they write to the socket themselves (`transport`).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
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
from neon_mq_connector.link.interface import ChannelEvents, LinkState
from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.select_channel import SelectChannel
from neon_mq_connector.link.services import Services
from neon_mq_connector.link.translate import connect_error, loss_error, refused_for_good
from neon_mq_connector.link.transport import StreamTransport
from neon_mq_connector.link.waiter import Waiter
from neon_mq_connector.threads.quiet import quiet_pika

LOG = logging.getLogger("neon_mq_connector.link")

_TICK = 0.25
FRAME_MAX = 131_072


class SelectLink:
    """One connection to a virtual host, opened when first needed and kept.

    `_lock` owns the thread, the loop and the move to CLOSING. Everything else that has an
    underscore is owned by the I/O thread.

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
        # reentrant: a signal handler may interrupt its holder to stop everything
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._thread_id = 0
        self._ioloop: Loop | None = None
        self._closing = False
        self._outbox: deque[Callable[[], object]] = deque()
        self._services: Services | None = None
        self._connection: pika.SelectConnection | None = None
        self._channels: set[SelectChannel] = set()
        self._pending: list[tuple[ChannelEvents, Waiter[SelectChannel]]] = []
        self._round: list[pika.ConnectionParameters] = []
        self._outage_began: float | None = None
        self._retry_timer: object | None = None
        self._received = 0
        self._received_at = 0.0

    # -- any thread ----------------------------------------------------------------------------

    def open_channel(
        self,
        events: ChannelEvents,
        *,
        timeout: float,
        waiter: Waiter[SelectChannel] | None = None,
    ) -> SelectChannel:
        """Open a channel, and the connection if there is none yet.

        While the connection is down this waits for the next attempt to connect, and no longer: if
        that fails, so does this.

        Args:
            events: where the channel reports what happens on it.
            timeout: how long to wait at most, in seconds.
            waiter: where the answer goes; another thread may end the wait by failing it.

        Returns:
            The open channel.

        Raises:
            BrokerUnreachableError: no server answered; the link goes on trying.
            AuthenticationError, VhostAccessError: the broker is up and refused.
            StoppedError: the link was closed.
            WaitTimeoutError: no answer in time.
        """
        waiter = waiter or Waiter()
        self._start()
        channel_waiter = waiter
        self.submit(lambda: self._open_channel(events, channel_waiter))
        return waiter.wait(timeout, f"{self.name}: opening a channel")

    def open_soon(self) -> bool:
        """Open the connection if there is none yet, without waiting.

        Returns:
            Whether it is open.

        Raises:
            StoppedError: the link was closed.
        """
        self._start()
        return self.state is LinkState.OPEN

    def submit(self, work: Callable[[], None]) -> None:
        """Have the I/O thread call something soon; work is done in the order of the calls.

        Raises:
            StoppedError: the link was closed.
        """
        self._outbox.append(work)
        ioloop = self._ioloop
        if ioloop is None:
            raise StoppedError(f"{self.name} is closed")
        ioloop.wake()

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        """Have the I/O thread call something after a delay in seconds.

        Raises:
            StoppedError: the link was closed.
        """

        def begin() -> None:
            if self._ioloop is not None:
                self._ioloop.call_later(delay, work)

        self.submit(begin)

    def call_last(self, call: Callable[[Any], object], argument: Any) -> None:
        """Call something that wakes another thread when the I/O thread has nothing else to do.

        Called on another thread, it is called at once.
        """
        ioloop = self._ioloop
        if ioloop is not None and self.is_io_thread:
            ioloop.call_last(call, argument)
        else:
            call(argument)

    def delay_reads(self, seconds: float) -> None:
        """Delay what the I/O thread reads next, so that more is read together.

        Called on another thread, which has read in its place, it does nothing.

        Args:
            seconds: how long there is enough to do without what comes; see `Loop.delay_reads`.
        """
        ioloop = self._ioloop
        if ioloop is not None and self.is_io_thread:
            ioloop.delay_reads(seconds)

    @property
    def is_io_thread(self) -> bool:
        """Whether the calling thread is the one that owns the connection."""
        return self._thread_id == threading.get_ident()

    def close(self, timeout: float) -> bool:
        """Close the channels and the connection, and end the thread.

        Args:
            timeout: how long to wait for the broker's good-bye, in seconds; after it the socket is
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
            with self._lock:
                if self._ioloop is not None:
                    self._ioloop.add_callback(self._drop)
            thread.join(2.0)
        return not thread.is_alive()

    def _start(self) -> None:
        with self._lock:
            if self._closing:
                raise StoppedError(f"{self.name} is closed")
            if self._thread is not None:
                return
            self._ioloop = Loop(self._outbox)
            self._thread = threading.Thread(target=self._run_quietly, name=self.name, daemon=True)
            self._thread.start()

    # -- I/O thread: the loop ------------------------------------------------------------------

    def _run_quietly(self) -> None:
        self._thread_id = threading.get_ident()
        with quiet_pika():
            self._run()

    def _run(self) -> None:
        ioloop = self._ioloop
        assert ioloop is not None
        while True:
            self._services = Services(ioloop, self._count_taken)
            ioloop.call_later(0, self._tick)
            try:
                self._connect()
                ioloop.start()
            except Exception:  # a fault of pika's must not end the supervision
                LOG.exception("%s: the loop failed, starting it anew", self.name)
                self._abandon(ConnectionLostError(f"{self.name}: its loop failed"))
                with self._lock:
                    broken, self._ioloop = ioloop, Loop(self._outbox)
                    ioloop = self._ioloop
                broken.close()
                if not self._closing:
                    continue
            break
        with self._lock:
            self._ioloop = None
            self._thread_id = 0
            self.state = LinkState.CLOSED
        self._abandon(StoppedError(f"{self.name} is closed"))
        self._drain()
        if self._services is not None:
            self._services.close_socket()
        ioloop.close()

    def _drain(self) -> None:
        outbox = self._outbox
        for _ in range(len(outbox)):
            try:
                outbox.popleft()()
            except Exception:
                LOG.exception("%s: work for the I/O thread failed", self.name)

    def _tick(self) -> None:
        self.last_tick = now = time.monotonic()
        if self._ioloop is not None:
            self._ioloop.call_later(_TICK, self._tick)
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
        if self._ioloop is not None:
            self._ioloop.hang_up()
        self._lost(connection, error)

    # -- I/O thread: connecting ----------------------------------------------------------------

    def _connect(self) -> None:
        self._retry_timer = None
        if self._closing:
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
        if self._closing:
            self._stop_loop()
            return
        if self._round:
            self._try_next_server()
            return
        pending, self._pending = self._pending, []
        for _events, waiter in pending:
            waiter.fail(error)
        if refused_for_good(error) and self.generation == 0:
            # whoever asked knows; asking again connects again
            self.state = LinkState.IDLE
            return
        self._retry_later()

    def _retry_later(self) -> None:
        self.state = LinkState.WAITING
        now = time.monotonic()
        if self._outage_began is None:
            self._outage_began = now
        delay = self._backoff.delay(now - self._outage_began)
        LOG.debug("%s: next attempt to connect in %.2f s", self.name, delay)
        assert self._ioloop is not None
        self._retry_timer = self._ioloop.call_later(delay, self._connect)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        if self._closing:
            connection.close()
            return
        self.generation += 1
        if self._outage_began is not None:
            LOG.info("%s: connected again", self.name)
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

    def _open_channel(self, events: ChannelEvents, waiter: Waiter[SelectChannel]) -> None:
        if self._closing:
            waiter.fail(StoppedError(f"{self.name} is closed"))
            return
        if self.state is not LinkState.OPEN or self._connection is None:
            self._pending.append((events, waiter))
            if self.state is LinkState.IDLE:
                self._connect()
            return
        channel = SelectChannel(self, events, self._transport(), _frame_max(self._connection))
        self._channels.add(channel)
        channel._open(self._connection, waiter)

    def _transport(self) -> StreamTransport:
        assert self._services is not None
        assert self._services.transport is not None, "there is one before the connection opens"
        return self._services.transport

    def _fault(self) -> FrameError | None:
        """Say what was wrong with what came, if the connection ended for it."""
        transport = None if self._services is None else self._services.transport
        return None if transport is None else transport.reader.fault

    def _forget(self, channel: SelectChannel) -> None:
        self._channels.discard(channel)

    def _on_close(self, connection: pika.SelectConnection, error: BaseException) -> None:
        if connection is self._connection:
            self._connection = None
            what = f"{self.name}: the connection"
            self._lost(connection, loss_error(self._fault() or error, what=what))

    def _lost(self, connection: pika.SelectConnection, error: MQError) -> None:
        """Go round again; the channels have reported, or are made to."""
        self._abandon(error)
        if self._closing:
            self._stop_loop()
            return
        LOG.warning("%s", error)  # it begins with the name
        self.last_error = error
        self._retry_later()

    def _abandon(self, error: MQError) -> None:
        """Void everything that belonged to the connection."""
        self._connection = None
        self.blocked_reason = None
        for channel in list(self._channels):
            channel._shut(error, error.__cause__ or error)
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
        """End the connection without the broker's good-bye; pika reports its end to `_on_close`."""
        if self._ioloop is not None:
            self._ioloop.hang_up()
            self._ioloop.call_later(0.5, self._stop_loop)

    def _stop_loop(self) -> None:
        self.state = LinkState.CLOSING
        ioloop = self._ioloop
        if ioloop is not None:
            # not stop() itself: a loop that was not started yet would forget it
            ioloop.add_callback(ioloop.stop)


def _frame_max(connection: pika.SelectConnection) -> int:
    """Give the largest frame that was negotiated, in bytes; without a bound, one of ours."""
    return int(connection.params.frame_max or FRAME_MAX)
