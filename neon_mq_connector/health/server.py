"""Serve the state over HTTP: a few requests at a time, each with a time-out, on threads."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import ThreadingTCPServer
from typing import Any, NamedTuple

from neon_mq_connector.health.prometheus import CONTENT_TYPE, metrics_text
from neon_mq_connector.health.status import Status, merged_verdict
from neon_mq_connector.threads import forking

LOG = logging.getLogger("neon_mq_connector.health")

#: How long a client may take to send its request, or to read, at a time, in seconds.
_CLIENT_TIMEOUT = 5.0
#: How many requests are answered at a time; another connection is closed at once.
_MAX_REQUESTS = 16
_POLL_INTERVAL = 0.25
_CLOSE_TIMEOUT = 2.0

#: Returns the status of each process that the endpoint speaks for.
ReadStatuses = Callable[[], Sequence[Status]]

_PATHS = ("/", "/live", "/ready", "/inflight", "/metrics", "/status")


class Answer(NamedTuple):
    """An HTTP response."""

    code: int
    content_type: str
    body: bytes


class HealthServer:
    """Serve until `close`, on daemon threads.

    Args:
        read_statuses: returns the statuses; called for each request, on its thread.
        host: the address to listen on; an IPv6 one too.
        port: the port; 0 for a free one.
        sock: a socket that listens already, instead of both.

    Attributes:
        host: the address.
        port: the port.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        read_statuses: ReadStatuses,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
    ) -> None:
        if sock is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.create_server((host, port), family=family, backlog=_MAX_REQUESTS)
        forking.close_in_child(sock)
        self.host, self.port = sock.getsockname()[:2]
        self._server = _Server(sock, lambda path: answer(path, read_statuses))
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="mq-health", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def close(self) -> None:
        """Stop serving; a second time does no harm."""
        self._closed = True
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_TIMEOUT)
        self._server.server_close()

    def _serve(self) -> None:
        while not self._closed:
            self._server.handle_request()  # or a pause, if none comes


class _Server(ThreadingTCPServer):
    """A server that does not look up its own name, as those of `http.server` do."""

    timeout = _POLL_INTERVAL
    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, respond: Callable[[str], Answer]) -> None:
        super().__init__(sock.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.respond = respond
        self._free = threading.Semaphore(_MAX_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        LOG.debug("a request of %s was not answered", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_TIMEOUT
    server: _Server

    def version_string(self) -> str:
        return "neon-mq"

    def do_GET(self) -> None:
        try:
            response = self.server.respond(self.path)
        except Exception as error:
            LOG.exception("%s cannot be answered", self.path)
            body = json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
            response = Answer(500, "application/json", body)
        self.send_response(response.code)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        LOG.debug(format, *arguments)


def answer(path: str, read_statuses: ReadStatuses) -> Answer:
    """Return the response to a request for a path."""
    path = path.partition("?")[0]
    if path == "/":
        return Answer(200, "text/html; charset=utf-8", _page())
    if path not in _PATHS:
        return _json(404, {"error": f"there is nothing at {path}", "paths": _PATHS})
    statuses = read_statuses()
    if path in ("/live", "/ready"):
        key = path[1:]
        well, reasons = merged_verdict(statuses, key)
        return _json(200 if well else 503, {key: well, "reasons": reasons})
    if path == "/inflight":
        return _json(
            200, [_of_worker(status, each) for status in statuses for each in status["running"]]
        )
    if path == "/metrics":
        try:
            return Answer(200, CONTENT_TYPE, metrics_text(statuses))
        except ImportError:
            return Answer(
                501,
                "text/plain; charset=utf-8",
                b"metrics need prometheus-client: pip install 'neon-mq-connector[metrics]'\n",
            )
    return _json(200, statuses)


def _of_worker(status: Status, data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "worker": status["worker"]} if "worker" in status else data


def _json(code: int, data: Any) -> Answer:
    return Answer(code, "application/json", json.dumps(data, indent=1).encode() + b"\n")


@cache
def _page() -> bytes:
    return files("neon_mq_connector.health").joinpath("page.html").read_bytes()
