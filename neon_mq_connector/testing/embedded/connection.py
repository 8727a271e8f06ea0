"""A connection: its handshake, its channels, and how it ends. It knows bytes, but no sockets."""

from __future__ import annotations

import enum
import struct
import time
from collections.abc import Callable
from typing import Any

from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from pika.spec import Connection as ConnectionClass

from neon_mq_connector.testing.embedded.channel import Channel, ChannelState
from neon_mq_connector.testing.embedded.errors import AMQPError, frame_error
from neon_mq_connector.testing.embedded.frames import (
    FRAME_OVERHEAD,
    HEARTBEAT,
    FrameWriter,
    method_frame,
)
from neon_mq_connector.testing.embedded.handshake import (
    CHANNEL_MAX,
    FRAME_MAX,
    HEARTBEAT_SECONDS,
    LEAST_FRAME_MAX,
    MECHANISMS,
    PROTOCOL_HEADERS,
    SERVER_PROPERTIES,
    check_negotiated,
    client_can,
    credentials,
)
from neon_mq_connector.testing.embedded.methods import UPDATE_SECRET, Method, decode_method
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.tables import Table
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

_HANDSHAKE_SECONDS = 10.0
_CLOSE_SECONDS = 10.0
_PROTOCOL_SIZE = 8
_FRAME_START = 7
_frame_start = struct.Struct(">BHI").unpack_from


class ConnectionState(enum.Enum):
    """Where a connection is in its life."""

    NEW = "new"
    STARTING = "starting"
    TUNING = "tuning"
    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


class Connection:
    """A client's connection. Owned by the broker's thread.

    Args:
        node: the broker.
        peer: address and port of the client.
        local: address and port of the broker.
        write: sends bytes to the client, or looks at `finished` where there are none.

    Attributes:
        finished: whether the socket is to be closed when everything is sent.
        blocked: whether nothing is to be read from the client.
    """

    def __init__(
        self,
        node: Node,
        peer: tuple[str, int],
        local: tuple[str, int],
        write: Callable[[bytes], None],
    ) -> None:
        self.state = ConnectionState.NEW
        self.finished = False
        self.blocked = False
        self.peer = peer
        self.local = local
        self.user: User = User("", "")
        self.vhost: VirtualHost
        self.frame_max = FRAME_MAX
        self.channel_max = CHANNEL_MAX
        self.heartbeat = 0
        self.client_properties: Table = {}
        self.mechanism = ""
        self.connected_at = time.time()
        self.channels: dict[int, Channel] = {}
        self._node = node
        self._write = write
        self._congested = False
        self._held = b""
        #: the channels on which messages came, in the order of their first ones
        self._published: dict[Channel, None] = {}
        now = time.monotonic()
        self._last_received = self._last_sent = now
        self._deadline: float | None = now + _HANDSHAKE_SECONDS

    @property
    def name(self) -> str:
        """The name under which the connection is listed."""
        return f"{self.peer[0]}:{self.peer[1]} -> {self.local[0]}:{self.local[1]}"

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle what the client has sent."""
        self._last_received = time.monotonic()
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        if self.state is ConnectionState.NEW:
            if len(data) < _PROTOCOL_SIZE and PROTOCOL_HEADERS[0].startswith(data):
                self._held = data
                return
            position = _PROTOCOL_SIZE
            self._begin(data[:position])
        position = self._handle_frames(data, position)
        if position < len(data) and not self.finished:
            self._held = data[position:] if position else data
        for channel in self._published:
            channel.flush()
        self._published.clear()

    def _handle_frames(self, data: bytes, position: int) -> int:
        """Handle the whole frames; return the position behind them."""
        end = len(data)
        while end - position >= _FRAME_START and not (self.blocked or self.finished):
            kind, number, size = _frame_start(data, position)
            start = position + _FRAME_START
            stop = start + size
            # some clients take the limit for that of the payload; RabbitMQ lets them
            if size > self.frame_max:
                largest = self.frame_max - FRAME_OVERHEAD
                self.fail(frame_error(501, kind, b"", f": {{frame_too_large,{size},{largest}}}"))
                return end
            if stop >= end:
                break
            if data[stop] != FRAME_END:
                what = f": {{invalid_frame_end_marker,{data[stop]}}}"
                self.fail(frame_error(501, kind, data[start:stop], what))
                return end
            position = stop + 1
            self._handle_frame(kind, number, data[start:stop])
        return end if self.finished else position

    def _handle_frame(self, kind: int, number: int, payload: bytes) -> None:
        channel = self.channels.get(number)
        try:
            if channel is not None and self.state is ConnectionState.RUNNING:
                if kind == FRAME_METHOD:
                    channel.receive_method(payload)
                    if channel.state is ChannelState.CLOSED:
                        del self.channels[number]
                elif kind in (FRAME_HEADER, FRAME_BODY):
                    if channel.receive_content(payload, is_header=kind == FRAME_HEADER):
                        self._published[channel] = None
                        self._block_if_low()
                else:
                    self.fail(frame_error(505, kind, payload))
            elif number == 0 or self.state is not ConnectionState.RUNNING:
                self._handle_own_frame(kind, number, payload)
            else:
                self._new_channel(number)
                self._handle_frame(kind, number, payload)
        except AMQPError as error:
            if error.method is None and kind == FRAME_METHOD:
                error.method = int.from_bytes(payload[:4], "big")
            self.fail(error, channel)

    def _handle_own_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == FRAME_HEARTBEAT and number == 0:
            return
        if kind == FRAME_METHOD and number == 0:
            self._handle(decode_method(payload))
        elif self.state not in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            self.fail(frame_error(505, kind, payload))

    # --- bytes out

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._last_sent = time.monotonic()
        self._write(data)

    def set_congested(self, congested: bool) -> None:
        """Stop or resume deliveries, as the client reads too slowly or has caught up."""
        self._congested = congested
        for channel in self.channels.values():
            channel.consuming.congested = congested
        if not congested:
            for channel in list(self.channels.values()):
                channel.consuming.wake()

    def _block_if_low(self) -> None:
        """Stop reading after a message that came while an alarm is on."""
        if self._node.is_low and not self.blocked:
            self.blocked = True
            if client_can(self.client_properties, "connection.blocked"):
                self._send(ConnectionClass.Blocked(f"low on {' & '.join(self._node.alarms)}"))

    # --- the connection's life

    def fail(self, error: AMQPError, channel: Channel | None = None) -> None:
        """Close the channel or the whole connection because of an error."""
        if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        if channel is not None and not error.hard:
            channel.fail(error)
            return
        was_greeted = self.state is not ConnectionState.NEW
        self._release()
        if not was_greeted:
            self._finish()
            return
        self._send(ConnectionClass.Close(*error.close_arguments))
        self.state = ConnectionState.CLOSING
        self._deadline = time.monotonic() + _CLOSE_SECONDS

    def lost(self) -> None:
        """Release everything: the client is gone."""
        self._release()
        self.state = ConnectionState.CLOSED
        self.finished = True

    def tick(self) -> None:
        """End what takes too long, go on after an alarm, send a heartbeat; called regularly."""
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            self._release()
            self._finish()
        if self.blocked and not self._node.is_low:
            self._unblock()
        if not self.heartbeat or self.state is not ConnectionState.RUNNING:
            return
        if now - self._last_sent >= self.heartbeat / 2:
            self.send(HEARTBEAT)
        if now - self._last_received > 2 * self.heartbeat and not self.blocked:
            self.lost()

    def _unblock(self) -> None:
        self.blocked = False
        if client_can(self.client_properties, "connection.blocked"):
            self._send(ConnectionClass.Unblocked())
        held, self._held = self._held, b""
        self.receive(held)

    def check_timeouts(self, default: int, now: float) -> None:
        """End channels whose clients have held a message for too long."""
        for channel in list(self.channels.values()):
            try:
                channel.consuming.check_timeouts(default, now)
            except AMQPError as error:
                self.fail(error, channel)

    # --- methods

    def _begin(self, header: bytes) -> None:
        if header in PROTOCOL_HEADERS:
            self.state = ConnectionState.STARTING
            mechanisms = " ".join(MECHANISMS)
            self._send(ConnectionClass.Start(0, 9, SERVER_PROPERTIES, mechanisms, "en_US"))
        else:
            self.send(PROTOCOL_HEADERS[0])
            self._finish()

    def _handle(self, method: Method) -> None:
        state, index = self.state, method.index
        if state is ConnectionState.STARTING and index == ConnectionClass.StartOk.INDEX:
            self._start(method)
        elif state is ConnectionState.TUNING and index == ConnectionClass.TuneOk.INDEX:
            self._tune(method)
        elif state is ConnectionState.OPENING and index == ConnectionClass.Open.INDEX:
            self.vhost = self._node.enter(self.user, method.virtual_host)
            self.state = ConnectionState.RUNNING
            self._deadline = None
            self._send(ConnectionClass.OpenOk())
        elif index == ConnectionClass.Close.INDEX and state is not ConnectionState.STARTING:
            self._release()
            self._send(ConnectionClass.CloseOk())
            self._finish()
        elif state is ConnectionState.CLOSING:
            if index == ConnectionClass.CloseOk.INDEX:
                self._finish()
        elif state is ConnectionState.RUNNING and index == UPDATE_SECRET:
            self._send(ConnectionClass.UpdateSecretOk())
        else:
            raise AMQPError(504, f"unexpected method in connection state {state.value}")

    def _start(self, method: Method) -> None:
        self.client_properties = method.client_properties
        self.mechanism = method.mechanism
        if method.mechanism not in MECHANISMS:
            raise AMQPError(503, f"unknown authentication mechanism '{method.mechanism}'")
        name, password = credentials(method.mechanism, method.response)
        user = self._node.log_in(name, password)
        if user is None:
            if not client_can(self.client_properties, "authentication_failure_close"):
                self._finish()
                return
            raise AMQPError(
                403,
                f"Login was refused using authentication mechanism {method.mechanism}. For details "
                "see the broker logfile.",
                method=0,
            )
        self.user = user
        self.state = ConnectionState.TUNING
        self._send(ConnectionClass.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS))

    def _tune(self, method: Method) -> None:
        check_negotiated("frame_max", method.frame_max, LEAST_FRAME_MAX, FRAME_MAX)
        check_negotiated("channel_max", method.channel_max, 1, CHANNEL_MAX)
        self.frame_max = method.frame_max
        self.channel_max = method.channel_max
        self.heartbeat = method.heartbeat
        self.state = ConnectionState.OPENING

    # --- inside

    def _new_channel(self, number: int) -> None:
        if len(self.channels) >= self.channel_max:
            raise AMQPError(
                530,
                f"number of channels opened ({len(self.channels)}) has reached the negotiated "
                f"channel_max ({self.channel_max})",
                method=0,
            )
        channel = self.channels[number] = Channel(
            FrameWriter(number, self.send, self.frame_max),
            self.vhost,
            self.user,
            owner=self,
            notifies_cancel=client_can(self.client_properties, "consumer_cancel_notify"),
        )
        channel.consuming.congested = self._congested

    def _release(self) -> None:
        """Release everything that the connection has in the broker."""
        channels = list(self.channels.values())
        self.channels.clear()
        self._published.clear()
        for channel in channels:
            channel.flush()
            channel.release()
        if hasattr(self, "vhost"):
            self.vhost.remove_queues_of(self)
        self.blocked = False

    def _finish(self) -> None:
        self.state = ConnectionState.CLOSED
        self.finished = True
        self._write(b"")

    def _send(self, method: Any) -> None:
        self.send(method_frame(0, method))
