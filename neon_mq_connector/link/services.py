"""pika's I/O services on our loop, with our transport.

`SelectConnection` takes an `AbstractIOServices` in place of a loop. pika's adapter resolves names
and serves sockets and timers; streams are made here.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from pika.adapters.utils.nbio_interface import AbstractIOReference, AbstractStreamProtocol
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from neon_mq_connector.link.loop import Loop
from neon_mq_connector.link.transport import StreamTransport, TlsTransport
from neon_mq_connector.threads import forking


class Services(SelectorIOServicesAdapter):
    """Serve one connection after another; owned by the I/O thread."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.transport: StreamTransport | None = None
        self._socket: socket.socket | None = None
        self._native = loop

    def close_socket(self) -> None:
        """Close what is left of a connection whose loop was ended while it was being set up."""
        if self._socket is not None:
            self._socket.close()

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> AbstractIOReference:
        """Put pika's protocol on a connected socket; TLS shakes hands in the transport."""
        self._socket = sock

        def begin() -> None:
            if sock.fileno() < 0:
                return  # it was cancelled
            connected = sock
            kind = StreamTransport if ssl_context is None else TlsTransport
            try:
                if ssl_context is not None:
                    self._socket = connected = ssl_context.wrap_socket(
                        sock, server_hostname=server_hostname, do_handshake_on_connect=False
                    )
                forking.close_in_child(connected)
                protocol = protocol_factory()
                transport = kind(connected, protocol, self._native)
                protocol.connection_made(transport)
            except Exception as error:
                connected.close()
                on_done(error)
                return
            self.transport = transport
            on_done((transport, protocol))

        self._native.add_callback(begin)  # pika needs the reference first
        return _Setup(sock)


class _Setup(AbstractIOReference):
    """A socket that gets its protocol soon; until then pika may cancel that."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def cancel(self) -> bool:
        """Close the socket."""
        self._socket.close()
        return True
