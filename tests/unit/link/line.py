"""A transport on a loop of its own, and the other end of its connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pika.adapters.utils.nbio_interface import AbstractStreamProtocol

from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.transport import StreamTransport, TlsTransport
from tests.support.polling import eventually

CERTIFICATE = Path(__file__).parent / "certificates" / "localhost.pem"


class Protocol(AbstractStreamProtocol):
    """Take pika's place."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[BaseException | None] = []
        self.on_lost: Callable[[], None] = lambda: None

    def connection_made(self, transport: Any) -> None:
        pass

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.append(error)
        self.on_lost()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self.frames.append(data)


class Line:
    """A transport on a loop of its own, and the other end, which reads when it is told to."""

    def __init__(self, *, tls: bool, buffers: int | None = None) -> None:
        ours, self.theirs = connect(buffers)
        if tls:
            ours, self.theirs = shake_hands(ours, self.theirs)
        ours.setblocking(False)
        self.theirs.settimeout(0.02)
        self.protocol = Protocol()
        self.outbox: deque[Callable[[], object]] = deque()
        self.loop = Loop(self.outbox)
        kind = TlsTransport if tls else StreamTransport
        self.transport = kind(ours, self.protocol, self.loop)
        self.gate = SimpleNamespace(refusal=None)  # what a channel is to the transport
        self.received = bytearray()
        self.may_read = threading.Event()
        self.to_say: deque[bytes] = deque()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self.loop.start, name="loop", daemon=True),
            threading.Thread(target=self._read, name="other end", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        eventually(lambda: not self.transport._blocked)  # over TLS it reads first

    def _read(self) -> None:
        with suppress(OSError):
            while not self._is_over.is_set():
                if not self.may_read.wait(0.02):
                    continue
                if self.to_say:
                    self.theirs.settimeout(120.0)
                    self.theirs.sendall(self.to_say.popleft())
                    self.theirs.settimeout(0.02)
                try:
                    data = self.theirs.recv(65_536)
                except TimeoutError:
                    continue
                if not data:
                    return
                self.received += data

    @property
    def loop_thread(self) -> threading.Thread:
        return self._threads[0]

    def stop_reading(self) -> None:
        """Have the other end left to the test."""
        self._is_over.set()
        self._threads[1].join(120.0)

    def has_received(self, size: int) -> None:
        self.may_read.set()
        eventually(lambda: len(self.received) >= size, what=f"{size} bytes arrive")

    def close(self) -> None:
        self.transport.abort()
        eventually(lambda: self.protocol.lost)
        self.loop.stop()
        self._is_over.set()
        for thread in self._threads:
            thread.join(120.0)
            assert not thread.is_alive()
        self.loop.close()
        self.theirs.close()


def connect(buffers: int | None) -> tuple[socket.socket, socket.socket]:
    """Make two ends of a connection over loopback, with buffers as small as the system has them."""
    with socket.socket() as listener:
        if buffers:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.socket()
        if buffers:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        ours.connect(listener.getsockname())
        return ours, listener.accept()[0]


def shake_hands(ours: socket.socket, theirs: socket.socket) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Put TLS on both ends."""
    for_client = ssl.create_default_context(cafile=str(CERTIFICATE))
    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for_server.load_cert_chain(CERTIFICATE)
    for_server.num_tickets = 0  # nothing is to come that the other end did not say
    made: list[ssl.SSLSocket] = []
    serving = threading.Thread(
        target=lambda: made.append(for_server.wrap_socket(theirs, server_side=True)), name="serves"
    )
    serving.start()
    client = for_client.wrap_socket(ours, server_hostname="localhost")
    serving.join(120.0)
    return client, made[0]
