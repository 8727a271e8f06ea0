"""The client for the management interface, without a broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from neon_mq_connector.testing import ManagementClient, ManagementError, ports


class Recorder(BaseHTTPRequestHandler):
    """Answers every call with its own path, or refuses what is called `refused`."""

    def do_GET(self) -> None:
        refused = "refused" in self.path
        self.send_response(400 if refused else 200)
        self.end_headers()
        self.wfile.write(b"not you" if refused else json.dumps([self.path]).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[ManagementClient]:
    with HTTPServer((ports.LOOPBACK, 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ManagementClient(f"http://127.0.0.1:{server.server_port}", "neon", "secret")
        server.shutdown()
        thread.join(120.0)


def test_names_are_quoted(client: ManagementClient) -> None:
    assert client.call("GET", "queues", "/neon", "a b/c") == ["/api/queues/%2Fneon/a%20b%2Fc"]


def test_a_proxy_of_the_environment_is_not_used(
    client: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert client.call("GET", "overview") == ["/api/overview"]


def test_a_refusal_has_its_status_and_reason(client: ManagementClient) -> None:
    with pytest.raises(ManagementError, match="GET refused: 400 not you") as caught:
        client.call("GET", "refused")
    assert caught.value.status == 400


def test_no_answer_names_the_address_and_no_password() -> None:
    (port,) = ports.free_ports(1)
    client = ManagementClient(f"http://127.0.0.1:{port}", "neon", "secret")
    with pytest.raises(ManagementError, match=f"http://127.0.0.1:{port}") as caught:
        client.call("GET", "overview")
    assert caught.value.status is None
    assert "secret" not in f"{caught.value} {client!r}"
