"""The instruments themselves: a proxy that does not do what it says would prove nothing."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from neon_mq_connector.testing.proxy import Direction, FaultProxy
from tests.support.accounting import Ledger

_HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class _Echo(socketserver.BaseRequestHandler):
    """Send back what comes."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


@pytest.fixture
def line() -> Iterator[FaultProxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with FaultProxy(server.server_address[1]) as line:
            yield line
        server.shutdown()


@pytest.fixture
def client(line: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", line.port), timeout=120) as client:
        assert _echo(client, b"hello") == b"hello"
        yield client


def _echo(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < len(data) and (part := client.recv(65536)):
        answer += part
    return answer


def test_a_black_hole_swallows_and_keeps_the_connection(
    line: FaultProxy, client: socket.socket
) -> None:
    assert line.blackhole() == 1
    client.sendall(b"lost")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert line.connections == 1
    with socket.create_connection(("127.0.0.1", line.port), timeout=120) as other:
        assert _echo(other, b"passes") == b"passes"
    line.restore()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_black_hole_may_take_new_connections_too(line: FaultProxy) -> None:
    line.blackhole(new=True)
    with socket.create_connection(("127.0.0.1", line.port), timeout=0.3) as client:
        client.sendall(b"lost")
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_refused_until_healed_on_the_same_port(line: FaultProxy, client: socket.socket) -> None:
    port = line.port
    line.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=120)
    assert _echo(client, b"still there") == b"still there"
    line.restore()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as other:
        assert _echo(other, b"again") == b"again"


def test_a_frame_is_torn(line: FaultProxy) -> None:
    with socket.create_connection(("127.0.0.1", line.port), timeout=120) as client:
        assert _echo(client, _HEARTBEAT_FRAME) == _HEARTBEAT_FRAME
        line.tear(Direction.TO_CLIENT)
        client.sendall(_HEARTBEAT_FRAME * 3)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(100):
                received += part
            pytest.fail("the stream ended in good order")
        assert len(received) < 8


def test_the_account_says_what_is_lost() -> None:
    ledger = Ledger()
    for each in ("handled", "parked", "ready", "lost", "unsure", "refused", "liar"):
        ledger.sending(each)
    for each in ("handled", "parked", "ready", "lost"):
        ledger.confirmed(each)
    ledger.failed("unsure", may_have_arrived=True)
    ledger.failed("refused", may_have_arrived=False)
    ledger.failed("liar", may_have_arrived=False)
    ledger.handled("handled")
    ledger.handled("handled")
    ledger.handled("stranger")
    account = ledger.close(parked=["parked"], ready=["ready", "liar"])
    assert account.lost == {"lost"}
    assert account.repeated == 1
    assert [fault.split(":")[0] for fault in account.faults()] == [
        "1 confirmed and nowhere to be found",
        "1 said not to have arrived, and did",
        "1 found but never sent",
    ]
    with pytest.raises(AssertionError, match="lost"):
        account.check()
