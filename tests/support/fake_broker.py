"""A broker that lies: it speaks just enough AMQP for a service to trust it, and then says anything.

It keeps no queues. It agrees to whatever it is asked, confirms what is published, and delivers what
a test tells it to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pika.frame import Body, Header, Method, ProtocolHeader, decode_frame
from pika.spec import Basic, BasicProperties, Channel, Confirm, Connection, Exchange, Queue

FRAME_MAX = 131_072
GREETING_SIZE = 8


class Conversation:
    """One connection to the broker, in a thread of its own.

    Attributes:
        consumers: the tag of the consumer that was last started on a channel.
    """

    def __init__(self, broker: FakeBroker, line: socket.socket) -> None:
        self.consumers: dict[int, str] = {}
        self._broker = broker
        self._socket = line
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self._published: dict[int, int] = {}
        self._rest: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run, name="fake-broker", daemon=True)
        self._thread.start()

    def send(self, *frames: bytes) -> None:
        """Send bytes as they are."""
        with contextlib.suppress(OSError):  # the other side may have had enough
            self._socket.sendall(b"".join(frames))

    def method(self, channel: int, method: Any) -> None:
        """Send a method."""
        self.send(Method(channel, method).marshal())

    def deliver(self, channel: int, tag: int, body: bytes) -> None:
        """Send a message as it should be."""
        self.send(*message(channel, tag, body, self.consumers.get(channel, "nobody")))

    def hang_up(self) -> None:
        """End the connection without a good-bye."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """End it and wait for the thread."""
        self.hang_up()
        self._thread.join(120.0)

    def wait_for_the_end(self) -> None:
        """Say and answer nothing until the other side ends the connection."""
        with contextlib.suppress(OSError):
            while self._socket.recv(65_536):
                pass

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        with self._socket, contextlib.suppress(OSError):
            self._read = self._socket.recv(GREETING_SIZE)
            if not self._lies("greeting"):
                self.method(0, Connection.Start(server_properties={"capabilities": _CAN}))
            while data := self._socket.recv(65_536):
                self._read += data
                while self._next_frame():
                    pass

    def _next_frame(self) -> bool:
        size, frame = decode_frame(self._read)
        if frame is None:
            return False
        if isinstance(frame, ProtocolHeader):
            self._read = self._read[GREETING_SIZE:]
            return True
        self._read = self._read[size:]
        channel = frame.channel_number
        if isinstance(frame, Method):
            self._answer(channel, frame.method)
        elif isinstance(frame, Header):
            self._content(channel, frame.body_size)
        elif isinstance(frame, Body):
            self._content(channel, self._rest[channel] - len(frame.fragment))
        return True

    def _answer(self, channel: int, method: Any) -> None:
        name = method.NAME
        if self._lies(name, channel):
            return
        if name == "Connection.Close":
            self.method(0, Connection.CloseOk())
            self.hang_up()
        elif name == "Basic.Consume":
            self.method(channel, Basic.ConsumeOk(method.consumer_tag))
            self.consumers[channel] = method.consumer_tag
            self._lies("consuming", channel)
        elif name in _ANSWERS:
            self.method(channel, _ANSWERS[name](method))
            self._lies(f"after {name}", channel)

    def _content(self, channel: int, rest: int) -> None:
        """Take a piece of a published message."""
        self._rest[channel] = rest
        if not rest:
            number = self._published[channel] = self._published.get(channel, 0) + 1
            if not self._lies("published", channel):
                self.method(channel, Basic.Ack(number, False))

    def _lies(self, moment: str, channel: int = 0) -> bool:
        lie = self._broker.lies.get(moment)
        if lie is None:
            return False
        self._broker.told += 1
        lie(self, channel)
        return True


_CAN = {
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}

Lie = Callable[[Conversation, int], object]

_ANSWERS: dict[str, Callable[[Any], Any]] = {
    "Connection.StartOk": lambda _: Connection.Tune(2047, FRAME_MAX, 0),
    "Connection.Open": lambda _: Connection.OpenOk(),
    "Channel.Open": lambda _: Channel.OpenOk(),
    "Channel.Close": lambda _: Channel.CloseOk(),
    "Basic.Qos": lambda _: Basic.QosOk(),
    "Basic.Cancel": lambda method: Basic.CancelOk(method.consumer_tag),
    "Confirm.Select": lambda _: Confirm.SelectOk(),
    "Exchange.Declare": lambda _: Exchange.DeclareOk(),
    "Queue.Declare": lambda method: Queue.DeclareOk(method.queue or "made-up", 0, 1),
    "Queue.Bind": lambda _: Queue.BindOk(),
    "Queue.Delete": lambda _: Queue.DeleteOk(0),
}


class FakeBroker:
    """Listen on a port of the loopback interface until the end of the ``with`` block.

    Attributes:
        lies: what to do at a moment in place of the honest answer: ``greeting``, the name of a
            method that came, ``published``; or what to say more: ``consuming``, ``after <method>``.
        told: how many lies were told.
        conversations: one per connection, the ended ones too.
    """

    def __init__(self) -> None:
        self.lies: dict[str, Lie] = {}
        self.told = 0
        self.conversations: list[Conversation] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._thread = threading.Thread(target=self._listen, name="fake-broker", daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(120.0)
        for each in self.conversations:
            each.join()

    def _listen(self) -> None:
        while True:
            try:
                line, _address = self._listener.accept()
            except OSError:
                return
            self.conversations.append(Conversation(self, line))


def message(
    channel: int, tag: int, body: bytes, consumer: str = "nobody", announced: int | None = None
) -> list[bytes]:
    """Make the frames of a delivery."""
    size = len(body) if announced is None else announced
    return [
        Method(channel, Basic.Deliver(consumer, tag, False, "", "q")).marshal(),
        Header(channel, size, BasicProperties(content_type="x/y")).marshal(),
        Body(channel, body).marshal(),
    ]
