"""The socket of a connection, written to by many threads, over loopback and with TLS."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from unittest.mock import DEFAULT, Mock

import pytest

from neon_mq_connector.errors import ChannelShutError, ConnectionLostError, WaitTimeoutError
from neon_mq_connector.link import transport as transport_module
from tests.support.polling import eventually
from tests.unit.link.frames import HEARTBEAT
from tests.unit.link.line import Line

SHUT = ChannelShutError("as the test says")
_piece = struct.Struct(">IHI")  # size of what follows, who sent it, their how manieth


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def make_line(request: pytest.FixtureRequest) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(buffers: int | None = None) -> Line:
        made.append(Line(tls=request.param, buffers=buffers))
        return made[-1]

    yield make
    for line in made:
        line.close()


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    return make_line()


@pytest.fixture
def narrow(make_line: Callable[..., Line]) -> Line:
    """A line that takes little at a time."""
    return make_line(buffers=2_048)


def piece(sender: int, number: int, size: int) -> bytes:
    content = bytes([(sender * 31 + number) % 256]) * size
    return _piece.pack(len(content), sender, number) + content


def pieces(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Take apart what was received; every piece has to be whole."""
    found, position = [], 0
    while position < len(data):
        size, sender, number = _piece.unpack_from(data, position)
        position += _piece.size
        content = data[position : position + size]
        assert content == bytes([(sender * 31 + number) % 256]) * size, "pieces were mixed"
        position += size
        found.append((sender, number))
    return found


def run_all(*works: Callable[[], None]) -> None:
    """Do things at the same time, each in a thread."""
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result(120.0)


# -- sending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("buffers", [None, 2_048], ids=["wide", "narrow"])
def test_what_threads_send_arrives_in_one_piece_and_in_the_order_of_each(
    make_line: Callable[..., Line], buffers: int | None
) -> None:
    line = make_line(buffers)
    senders, count = 8, 120
    sizes = [random.Random(sender).choices([0, 10, 300, 6_000], k=count) for sender in range(8)]

    def send(sender: int) -> None:
        for number, size in enumerate(sizes[sender]):
            line.transport.send(
                piece(sender, number, size), line.gate, flush=number % 5 != 1 or number > count - 3
            )

    line.may_read.set()
    run_all(*(partial(send, sender) for sender in range(senders)))
    line.has_received(sum(map(sum, sizes)) + senders * count * _piece.size)
    found = pieces(line.received)
    for sender in range(senders):
        assert [n for s, n in found if s == sender] == list(range(count))
    assert line.transport.get_write_buffer_size() == 0


def test_both_ends_talk_at_the_same_time(narrow: Line) -> None:
    narrow.to_say.extend([HEARTBEAT * 500] * 40)

    def send(sender: int) -> None:
        for number in range(60):
            narrow.transport.send(piece(sender, number, 4_000), narrow.gate)

    narrow.may_read.set()
    run_all(*(partial(send, sender) for sender in range(3)))
    narrow.has_received(3 * 60 * (4_000 + _piece.size))
    eventually(lambda: len(narrow.protocol.frames) == 40 * 500)
    assert len(pieces(narrow.received)) == 180


# -- the gate ----------------------------------------------------------------------------------


def test_nothing_follows_the_frame_that_closes_a_channel_while_threads_send_on_it(
    narrow: Line,
) -> None:
    other, marker = SimpleNamespace(refusal=None), 9
    sent = [0] * 4

    def send(sender: int) -> None:
        with suppress(ChannelShutError):
            while True:
                narrow.transport.send(piece(sender, sent[sender], 100), narrow.gate, timeout=600.0)
                sent[sender] += 1

    def shut() -> None:
        eventually(lambda: min(sent) > 20, interval=0.001)
        narrow.transport.shut(narrow.gate, SHUT)
        narrow.transport.write(piece(marker, 0, 1))
        for number in range(5):
            narrow.transport.send(piece(8, number, 10), other)

    narrow.may_read.set()
    run_all(shut, *(partial(send, sender) for sender in range(4)))
    total = sum(sent) * (100 + _piece.size) + 1 + _piece.size + 5 * (10 + _piece.size)
    narrow.has_received(total)
    found = pieces(narrow.received)
    assert [sender for sender, _ in found[found.index((marker, 0)) :]] == [marker] + [8] * 5
    for sender in range(4):
        assert [n for s, n in found if s == sender] == list(range(sent[sender]))


# -- the backlog -------------------------------------------------------------------------------


@pytest.fixture
def small_backlog(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(transport_module, "MAX_BACKLOG", 100_000)
    return 100_000


def fill(line: Line, limit: int) -> bytes:
    """Send until senders have to wait; gives what was sent."""
    sent = bytearray()
    while line.transport.get_write_buffer_size() <= limit:
        line.transport.send(b"x" * 10_000, line.gate)
        sent += b"x" * 10_000
    return bytes(sent)


def test_senders_wait_for_room_and_give_up_in_time_or_go_on_when_there_is_some(
    narrow: Line, small_backlog: int
) -> None:
    before = fill(narrow, small_backlog)
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="the broker takes nothing"):
        narrow.transport.send(b"refused", narrow.gate, timeout=0.1)
    assert time.monotonic() - began >= 0.1
    narrow.transport.send(b"settled", narrow.gate)  # who does not wait is always let through
    done: list[bytes] = []

    def send(data: bytes) -> None:
        narrow.transport.send(data, narrow.gate, timeout=600.0)
        done.append(data)

    def read() -> None:
        assert not done
        narrow.may_read.set()

    run_all(read, lambda: send(b"y"), lambda: send(b"z"))
    narrow.has_received(len(before) + 9)
    assert narrow.received[:-2] == before + b"settled"
    assert sorted(narrow.received[-2:]) == sorted(b"yz")


def test_senders_that_wait_are_refused_when_the_gate_is_shut_or_the_connection_ends(
    narrow: Line, small_backlog: int
) -> None:
    fill(narrow, small_backlog)
    narrow.protocol.on_lost = lambda: narrow.transport.shut(narrow.gate, SHUT)
    refused: list[BaseException] = []

    def send() -> None:
        try:
            narrow.transport.send(b"late", narrow.gate, timeout=600.0)
        except ChannelShutError as error:
            refused.append(error)

    run_all(narrow.transport.abort, send, send)
    # whoever came between the end and the shutting was let through, to nowhere
    assert set(refused) <= {SHUT}


def test_a_full_socket_that_takes_nothing_without_an_error_is_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as gevent's do over TLS
    tries: list[int] = []

    def send(_data: object) -> object:
        tries.append(threading.get_ident())
        assert len(tries) < 100
        return 0 if tries[-1] == here else DEFAULT

    here, full = threading.get_ident(), Mock(wraps=line.transport._socket)
    full.send.side_effect = send
    with monkeypatch.context() as patch:
        patch.setattr(line.transport, "_socket", full)
        line.transport.send(b"one", line.gate)
        line.has_received(3)


# -- the end -----------------------------------------------------------------------------------


def test_a_sender_that_is_interrupted_ends_the_connection(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = line.transport.reader.parser.channels[1] = Mock()
    with monkeypatch.context() as patch:
        interrupted = Mock(wraps=line.transport._socket)
        interrupted.send.side_effect = KeyboardInterrupt  # as a signal handler does
        patch.setattr(line.transport, "_socket", interrupted)
        with pytest.raises(KeyboardInterrupt):
            line.transport.send(b"one", line.gate)
        assert channel.closing.called, "at once: what the thread sends next is refused, not lost"
        (error,) = eventually(lambda: line.protocol.lost)
    assert isinstance(error, ConnectionLostError)


@pytest.mark.parametrize("how", ["reset", "abort"])
def test_threads_that_send_while_the_connection_ends_end_too(narrow: Line, how: str) -> None:
    narrow.protocol.on_lost = lambda: narrow.transport.shut(narrow.gate, SHUT)
    sent = [0] * 4

    def send(sender: int) -> None:
        with suppress(ChannelShutError):
            while True:
                narrow.transport.send(piece(sender, sent[sender], 500), narrow.gate, timeout=600.0)
                sent[sender] += 1

    def end() -> None:
        eventually(lambda: min(sent) > 10, interval=0.001)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            narrow.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            narrow.may_read.clear()
            narrow.theirs.close()
        else:
            narrow.transport.abort()

    narrow.may_read.set()
    run_all(end, *(partial(send, sender) for sender in range(4)))
    assert len(narrow.protocol.lost) == 1
