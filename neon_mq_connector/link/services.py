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

from neon_mq_connector.link.loop import READ, WRITE, Loop
from neon_mq_connector.link.transport import StreamTransport, TlsTransport
from neon_mq_connector.threads import forking


class Services(SelectorIOServicesAdapter):
    """Serve one connection after another; owned by the I/O thread.

    Args:
        loop: the loop.
        on_taken: called with how many bytes of frames did not reach pika.
    """

    def __init__(self, loop: Loop, on_taken: Callable[[int], object]) -> None:
        super().__init__(loop)
        self.transport: StreamTransport | None = None
        self._socket: socket.socket | None = None
        self._native = loop
        self._on_taken = on_taken

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
        """Put pika's protocol on a connected socket, after the TLS handshake if there is one."""
        self._socket = sock

        def ready(connected: socket.socket) -> None:
            kind = StreamTransport if ssl_context is None else TlsTransport
            self._socket = connected
            forking.close_in_child(connected)
            try:
                protocol = protocol_factory()
                transport = kind(connected, protocol, self._native, self._on_taken)
                protocol.connection_made(transport)
            except Exception as error:
                connected.close()
                on_done(error)
                return
            self.transport = transport
            on_done((transport, protocol))

        setup = _Setup(self._native, sock, ssl_context, server_hostname, ready, on_done)
        self._native.add_callback(setup.go_on)
        return setup


class _Setup(AbstractIOReference):
    """Get a socket ready, without waiting; until that is done pika may cancel it."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        ssl_context: ssl.SSLContext | None,
        server_hostname: str | None,
        ready: Callable[[socket.socket], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._ssl_context = ssl_context
        self._server_hostname = server_hostname
        self._ready = ready
        self._failed = failed
        self._over = False
        self._watched: int | None = None

    def go_on(self, *_event: int) -> None:
        """Go on with the handshake, if there is one, as far as the socket lets it."""
        if self._over:
            return
        try:
            if self._ssl_context is not None:
                self._shake_hands(self._ssl_context)
        except ssl.SSLWantReadError:
            self._watch(READ)
        except ssl.SSLWantWriteError:
            self._watch(WRITE)
        except (OSError, ValueError) as error:
            self.cancel()
            self._failed(error)
        else:
            self._end()
            self._ready(self._socket)

    def cancel(self) -> bool:
        """Stop, and close the socket.

        Returns:
            False if it was over already.
        """
        if self._over:
            return False
        self._end()
        self._socket.close()
        return True

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket = context.wrap_socket(
                self._socket, server_hostname=self._server_hostname, do_handshake_on_connect=False
            )
        self._socket.do_handshake()

    def _watch(self, events: int) -> None:
        if self._watched is None:
            self._watched = self._socket.fileno()
            self._loop.add_handler(self._watched, self.go_on, events)
        else:
            self._loop.update_handler(self._watched, events)

    def _end(self) -> None:
        self._over = True
        if self._watched is not None:
            self._loop.remove_handler(self._watched)
            self._watched = None
