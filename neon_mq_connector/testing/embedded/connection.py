"""A connection: its handshake, its channels, and how it ends. It knows bytes, but no sockets."""

from __future__ import annotations

import enum
import struct
import time
from collections.abc import Callable
from typing import Any

from pika.spec import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from pika.spec import Connection as ConnectionClass

from neon_mq_connector.testing.embedded.channel import Channel
from neon_mq_connector.testing.embedded.errors import AMQPError, frame_error
from neon_mq_connector.testing.embedded.frames import FRAME_OVERHEAD, HEARTBEAT, method_frame
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
    login_refused,
)
from neon_mq_connector.testing.embedded.methods import (
    UPDATE_SECRET,
    Method,
    decode_method,
    split_index,
)
from neon_mq_connector.testing.embedded.node import Node
from neon_mq_connector.testing.embedded.tables import Table
from neon_mq_connector.testing.embedded.users import User
from neon_mq_connector.testing.embedded.virtual_host import VirtualHost

#: Consumers get nothing more while so many octets wait to be sent, until so few are left.
_CONGESTED_ABOVE = 1024 * 1024
_CONGESTED_UNTIL = 256 * 1024
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
        on_output: is called when there is something to be sent again, or `finished` is set.

    Attributes:
        finished: whether the socket is to be closed when everything is sent.
        blocked: whether nothing is to be read from the client.
    """

    def __init__(
        self,
        node: Node,
        peer: tuple[str, int],
        local: tuple[str, int],
        on_output: Callable[[Connection], None],
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
        self.notifies_cancel = False
        self.client_properties: Table = {}
        self.mechanism = ""
        self.connected_at = time.time()
        self.channels: dict[int, Channel] = {}
        self._node = node
        self._on_output = on_output
        self._output: list[bytes] = []
        self._output_size = 0
        self._unsent = 0
        self._congested = False
        self._held = b""
        self._confirming: dict[Channel, None] = {}
        self._told_blocked = False
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
            position = self._begin(data[:_PROTOCOL_SIZE])
        position = self._handle_frames(data, position)
        if position < len(data) and not self.finished:
            self._held = data[position:] if position else data
        if self._confirming:
            for channel in self._confirming:
                channel.flush()
            self._confirming.clear()

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
                elif kind in (FRAME_HEADER, FRAME_BODY):
                    channel.receive_content(payload, is_header=kind == FRAME_HEADER)
                else:
                    self.fail(frame_error(505, kind, payload))
            elif number == 0 or self.state is not ConnectionState.RUNNING:
                self._handle_own_frame(kind, number, payload)
            else:
                self._new_channel(number)
                self._handle_frame(kind, number, payload)
        except AMQPError as error:
            self.fail(error, channel)

    def _handle_own_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == FRAME_HEARTBEAT and number == 0:
            return
        if kind == FRAME_METHOD and number == 0:
            method = decode_method(payload)
            try:
                self._handle(method)
            except AMQPError as error:
                error.method = error.method or split_index(method.index)
                raise
        elif self.state not in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            self.fail(frame_error(505, kind, payload))

    # --- bytes out

    def send(self, data: bytes) -> None:
        """Send bytes to the client, as soon as what is being handled has been."""
        output = self._output
        if not output:
            self._on_output(self)
        output.append(data)
        self._output_size += len(data)
        if self._output_size + self._unsent > _CONGESTED_ABOVE and not self._congested:
            self._set_congested(True)

    def take_output(self) -> bytes:
        """Return what is to be sent, and forget it."""
        data = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        if data:
            self._last_sent = time.monotonic()
        return data

    def set_unsent(self, size: int) -> None:
        """Take note how much of what was taken could not be sent yet."""
        self._unsent = size
        if self._congested and self._output_size + size <= _CONGESTED_UNTIL:
            self._set_congested(False)

    # --- what channels need

    def closed(self, channel: Channel) -> None:
        """Take note that a channel has ended."""
        self.channels.pop(channel.number, None)
        self._confirming.pop(channel, None)

    def published(self) -> None:
        """Take note that a message came; while an alarm is on, it is the last for now."""
        if self._node.is_low and not self.blocked:
            self.blocked = True
            if client_can(self.client_properties, "connection.blocked"):
                self._told_blocked = True
                self._send(ConnectionClass.Blocked(f"low on {' & '.join(self._node.alarms)}"))

    def has_confirms(self, channel: Channel) -> None:
        """Take note that `flush` is to be called when all that came is handled."""
        self._confirming[channel] = None

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
        class_id, method_id = error.method or (0, 0)
        self._send(ConnectionClass.Close(error.code, error.text, class_id, method_id))
        self.state = ConnectionState.CLOSING
        self._deadline = time.monotonic() + _CLOSE_SECONDS

    def lost(self) -> None:
        """Take note that the client is gone."""
        self._release()
        self.state = ConnectionState.CLOSED
        self.finished = True

    def check_alarms(self) -> None:
        """Go on if the connection was blocked and no alarm is on any more."""
        if self.blocked and not self._node.is_low:
            self.blocked = False
            self._last_received = time.monotonic()
            if self._told_blocked:
                self._told_blocked = False
                self._send(ConnectionClass.Unblocked())
            held, self._held = self._held, b""
            self.receive(held)

    def tick(self, now: float) -> None:
        """Send a heartbeat if it is time, and end what takes too long."""
        if self._deadline is not None and now > self._deadline:
            self._release()
            self._finish()
        if not self.heartbeat or self.state is not ConnectionState.RUNNING:
            return
        if now - self._last_sent >= self.heartbeat / 2:
            self.send(HEARTBEAT)
        if now - self._last_received > 2 * self.heartbeat and not self.blocked:
            self.lost()

    def check_timeouts(self, default: int, now: float) -> None:
        """End channels whose clients have held a message for too long."""
        for channel in list(self.channels.values()):
            try:
                channel.consuming.check_timeouts(default, now)
            except AMQPError as error:
                self.fail(error, channel)

    # --- methods

    def _begin(self, header: bytes) -> int:
        """Answer the protocol header; return its size."""
        if header in PROTOCOL_HEADERS:
            self.state = ConnectionState.STARTING
            mechanisms = " ".join(MECHANISMS)
            self._send(ConnectionClass.Start(0, 9, SERVER_PROPERTIES, mechanisms, "en_US"))
        else:
            self.send(PROTOCOL_HEADERS[0])
            self._finish()
        return _PROTOCOL_SIZE

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
        self.notifies_cancel = client_can(self.client_properties, "consumer_cancel_notify")
        if method.mechanism not in MECHANISMS:
            raise AMQPError(503, f"unknown authentication mechanism '{method.mechanism}'")
        name, password = credentials(method.mechanism, method.response)
        user = self._node.log_in(name, password)
        if user is None:
            if not client_can(self.client_properties, "authentication_failure_close"):
                self._finish()
                return
            raise login_refused(method.mechanism)
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
            )
        channel = self.channels[number] = Channel(number, self)
        channel.consuming.congested = self._congested

    def _set_congested(self, congested: bool) -> None:
        self._congested = congested
        for channel in self.channels.values():
            channel.consuming.congested = congested
        if not congested:
            for channel in list(self.channels.values()):
                channel.consuming.wake()

    def _release(self) -> None:
        """Let go of everything that the connection has in the broker."""
        channels = list(self.channels.values())
        self.channels.clear()
        self._confirming.clear()
        for channel in channels:
            channel.flush()
            channel.release()
        if hasattr(self, "vhost"):
            self.vhost.remove_queues_of(self)
        self.blocked = False

    def _finish(self) -> None:
        self.state = ConnectionState.CLOSED
        self.finished = True
        self._on_output(self)

    def _send(self, method: Any) -> None:
        self.send(method_frame(0, method))
